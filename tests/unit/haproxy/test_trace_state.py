"""What hatrace keeps of the traces it has switched on, for the next run to clear up."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from hatrace.haproxy import procfs
from hatrace.haproxy.trace_state import Traced, TraceState


def traced(pid: int | None = None, ticks: int | None = None) -> Traced:
    pid = pid or os.getpid()
    own = procfs.stat(pid)
    return Traced(pid, ticks or (own.started_ticks if own else 1), pid, "/run/a.sock", "/")


def left(folder: Path, owner: int, ticks: int) -> Path:
    TraceState(folder).keep([traced()])
    (path,) = folder.glob("*.json")
    data = json.loads(path.read_text()) | {"owner": owner, "owner_ticks": ticks}
    path.write_text(json.dumps(data))
    return path


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    TraceState(folder).keep([traced()])
    (path,) = folder.glob("*.json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    TraceState(folder).keep([])
    assert list(folder.iterdir()) == []


def test_a_run_that_is_alive_keeps_its_own(tmp_path: Path) -> None:
    TraceState(tmp_path).keep([traced()])
    assert list(TraceState(tmp_path).left_behind()) == []


def test_what_a_killed_run_left(tmp_path: Path) -> None:
    path = left(tmp_path, 2**22 + 1, 1)
    assert list(TraceState(tmp_path).left_behind()) == [(path, [traced()])]


def test_a_reused_pid_is_not_the_run(tmp_path: Path) -> None:
    path = left(tmp_path, os.getpid(), 1)
    assert [each for each, _ in TraceState(tmp_path).left_behind()] == [path]


def test_what_cannot_be_read_is_removed(tmp_path: Path) -> None:
    for number, text in enumerate(("", "[]", '{"owner": 1}', "{")):
        (tmp_path / f"check-trace.{number}.json").write_text(text)
    assert list(TraceState(tmp_path).left_behind()) == []
    assert list(tmp_path.iterdir()) == []


def test_no_link_is_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("{}")
    (tmp_path / "check-trace.1.json").symlink_to(target)
    assert list(TraceState(tmp_path).left_behind()) == []
    assert target.read_text() == "{}"


def test_a_process_is_the_same_only_with_the_same_start() -> None:
    assert traced().lives
    assert not traced(ticks=7).lives
    assert not traced(pid=2**22 + 1).lives
