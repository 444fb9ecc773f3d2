"""``hatrace report`` and ``hatrace export``, from the command line down."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from hatrace.capture.writer import Writer
from hatrace.cli import run
from hatrace.model.event import Event
from tests import factories as make
from tests.unit.sinks.report import story


def capture(path: Path, events: list[Event]) -> str:
    with Writer(path, make.info()) as writer:
        for event in events:
            writer.write(event)
    return str(path)


@pytest.fixture
def leaking(tmp_path: Path) -> str:
    return capture(tmp_path / "leaking.hatrace", story.leaking())


@pytest.fixture
def healthy(tmp_path: Path) -> str:
    return capture(tmp_path / "healthy.hatrace", story.healthy())


def test_findings_are_exit_code_one(leaking: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", leaking]) == 1
    assert "WARNING check-leak: backend be\n" in capsys.readouterr().out


def test_nothing_found_is_exit_code_zero(healthy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", healthy]) == 0
    assert "Nothing found in 39s" in capsys.readouterr().out


def test_json_and_markdown(leaking: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", leaking, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["summary"]["outcome"] == "findings"
    assert run(["report", leaking, "--format", "markdown"]) == 1
    assert capsys.readouterr().out.startswith("## hatrace: lb1")


def test_into_a_file_of_its_owner(leaking: str, tmp_path: Path) -> None:
    output = tmp_path / "ticket.md"
    arguments = ["report", leaking, "--format", "markdown", "-o", str(output)]
    assert run(arguments) == 1
    assert output.read_text().startswith("## hatrace: lb1")
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    output.write_text("precious")
    assert run(arguments) == 2
    assert output.read_text() == "precious"
    assert run([*arguments, "--force"]) == 1
    assert output.read_text().startswith("## hatrace: lb1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["leaking.hatrace", "ticket.md"]


def test_a_torn_capture_is_reported_with_a_word_of_warning(
    leaking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = Path(leaking).read_bytes()
    Path(leaking).write_bytes(content[: len(content) // 4])
    assert run(["report", leaking]) == 1
    assert "it has no end" in capsys.readouterr().out
    assert run(["export", leaking, "--format", "csv"]) == 0
    assert "it has no end" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["report", "export"])
def test_what_is_no_capture_is_exit_code_four(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.hatrace"
    path.write_text("no capture")
    assert run([command, str(path)]) == 4
    said = capsys.readouterr().err
    assert "cannot read" in said
    assert "do: " in said


def test_export_gives_every_flow(healthy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", healthy]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["seen"] for row in rows] == ["ended"] * 20
    assert run(["export", healthy, "--format", "csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 21
    assert run(["export", healthy, "--what", "findings"]) == 0
    assert capsys.readouterr().out == ""


def test_json_is_what_export_prints_anyway(
    healthy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", healthy]) == 0
    lines = capsys.readouterr().out
    assert run(["export", healthy, "--json"]) == 0
    assert capsys.readouterr().out == lines


@pytest.mark.parametrize("what", ["flows", "findings"])
def test_export_says_what_is_missing(
    what: str, leaking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Path(leaking).read_bytes()
    Path(leaking).write_bytes(whole[: len(whole) // 4])
    assert run(["export", leaking, "--what", what]) == 0
    assert "has no end" in capsys.readouterr().err


def test_a_full_disk_is_said(leaking: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", leaking, "-o", "/dev/full", "--force"]) == 3
    assert "cannot write /dev/full" in capsys.readouterr().err
    assert Path("/dev/full").is_char_device()


def test_a_capture_can_be_redacted_afterwards(
    leaking: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "public.hatrace"
    assert run(["export", leaking, "--format", "hatrace", "--redact", "-o", str(output)]) == 0
    assert run(["report", str(output)]) == 1
    said = capsys.readouterr().out
    assert "WARNING check-leak: backend x" in said
    assert "redacted" in said
    for secret in ("192.0.2.", "lb1", "be/s1", "agent.py"):
        assert secret not in said
    assert run(["export", str(output), "--what", "findings"]) == 0
    assert "192.0.2." not in capsys.readouterr().out


def test_a_capture_under_a_name_that_no_file_may_have(
    leaking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", leaking, "--format", "hatrace", "-o", "x" * 300]) == 3
    assert "File name too long" in capsys.readouterr().err


def test_redacted_rows(leaking: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", leaking, "--redact"]) == 0
    assert "192.0.2." not in capsys.readouterr().out
    assert run(["export", leaking, "--redact", "--what", "findings"]) == 2
    assert "quote names" in capsys.readouterr().err


def test_a_capture_needs_a_file(leaking: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", leaking, "--format", "hatrace"]) == 2
    assert "none is given" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "style"),
    [
        ("export", "hatrace"),
        ("export", "csv"),
        ("export", "jsonl"),
        ("report", "json"),
    ],
)
def test_a_capture_is_not_written_over_itself(
    command: str, style: str, leaking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path(leaking).read_bytes()
    assert run([command, leaking, "--format", style, "-o", leaking, "--force"]) == 2
    assert "it is the one that is read" in capsys.readouterr().err
    assert Path(leaking).read_bytes() == before
