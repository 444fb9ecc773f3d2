"""hatrace explain: pages from the installation, and a helpful no."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from hatrace import detectors
from hatrace.commands import explain
from hatrace.errors import EnvironmentLacks, UsageError


def run(*arguments: str) -> str:
    result = CliRunner().invoke(explain.command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def slugs() -> list[str]:
    return [one.slug for one in detectors.create(lambda version, slug: ())]


@pytest.mark.parametrize("slug", slugs())
def test_each_detector_has_its_page(slug: str) -> None:
    page = run(slug)
    assert page.startswith(f"# {slug}\n")
    for heading in ("Symptom", "Mechanism", "Evidence", "Confirm by hand", "False positives"):
        assert f"## {heading}" in page
    assert "## Known bugs" in page


def test_without_a_slug_it_lists_them_with_their_questions() -> None:
    lines = run().splitlines()
    assert [line.split()[0] for line in lines] == sorted(line.split()[0] for line in lines)
    assert any("Do health-check sockets outlive their check?" in line for line in lines)
    assert all(line.endswith("?") for line in lines)


def test_json_has_the_page_whole() -> None:
    answer = json.loads(run("check-leak", "--json"))
    assert answer["slug"] == "check-leak"
    assert answer["page"].startswith("# check-leak")
    assert set(json.loads(run("--json"))) >= set(slugs())


def test_a_wrong_name_gets_the_nearest() -> None:
    with pytest.raises(UsageError) as error:
        run("check-leek")
    assert error.value.do == "hatrace explain check-leak"


def test_an_installation_without_pages_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(explain, "findings_dir", lambda: tmp_path)
    with pytest.raises(EnvironmentLacks):
        run()
