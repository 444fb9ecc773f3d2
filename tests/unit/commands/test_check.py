"""What ``hatrace check`` makes of its words, before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from hatrace.cli import run
from hatrace.haproxy import validate


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


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("\x7fELF", "Exec format error"),
        ("#!/nowhere/sh\n", "No such file or directory"),
        ("#!/bin/sh\n[ $1 = -v ] || exec sleep 60\n", "did not end within 0.1 s"),
        ("#!/bin/sh\nexit 0\n", "tells no version of HAProxy"),
    ],
)
def test_nor_is_one_that_turns_out_not_to_run(
    content: str,
    why: str,
    config: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(validate, "DEADLINE_S", 0.1)
    binary = tmp_path / "haproxy"
    binary.write_text(content)
    binary.chmod(0o755)
    assert run(["check", config, "--haproxy", str(binary)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"--haproxy {binary}: " in said.err and why in said.err


def test_a_refusal_counts_whoever_it_is_from(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also of one that is broken and tells no version."""
    binary = tmp_path / "haproxy"
    binary.write_text("#!/bin/sh\necho error while loading shared libraries >&2; exit 127\n")
    binary.chmod(0o755)
    assert run(["check", config, "--haproxy", str(binary)]) == 1
    said = capsys.readouterr().out
    assert "config-rejected" in said and "error while loading shared libraries" in said
