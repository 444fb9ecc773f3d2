"""Where a command prints to: nothing half-written, nothing overwritten unasked, one-line noes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hatrace.commands._output import destination
from hatrace.errors import EnvironmentLacks, UsageError


def test_stdout_unless_said() -> None:
    with destination(None, force=False) as stream:
        assert stream is sys.stdout


def test_a_file_for_its_owner_that_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "report"
    with destination(path, force=False) as stream:
        stream.write("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), destination(tmp_path / "x", force=False) as stream:
        stream.write("half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "report"
    path.write_text("precious")
    with pytest.raises(UsageError, match="exists"), destination(path, force=False):
        pass
    assert path.read_text() == "precious"
    with destination(path, force=True) as stream:
        stream.write("new")
    assert path.read_text() == "new"


@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_file_is_not_replaced(force: bool, tmp_path: Path) -> None:
    with pytest.raises((UsageError, EnvironmentLacks)), destination(tmp_path, force):
        pass
    assert tmp_path.is_dir()


def test_a_name_that_no_file_may_have(tmp_path: Path) -> None:
    with (
        pytest.raises(EnvironmentLacks, match="File name too long"),
        destination(tmp_path / ("x" * 300), force=False),
    ):
        pass


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with (
        pytest.raises(EnvironmentLacks, match="No such file"),
        destination(tmp_path / "no/such", force=False),
    ):
        pass
