"""What ``hatrace check`` makes of its words, before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from hatrace.cli import run


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "haproxy.cfg"
    path.write_text("global\n    hard-stop-after 5m\n")
    return str(path)


@pytest.mark.parametrize(
    "binary", ["/nowhere/haproxy", "no-such-haproxy", "", "/tmp", "/etc/passwd"]
)
def test_a_haproxy_that_cannot_be_run_is_no_all_clear(
    binary: str, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0 would let a deployment pass that nobody validated."""
    assert run(["check", config, "--haproxy", binary]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"--haproxy {binary}: no program" in said.err
