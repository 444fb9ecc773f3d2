"""What was done, in a new capture or at the end of one that exists."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hatrace.capture.reader import read
from hatrace.capture.writer import Writer
from hatrace.commands._journal import Nowhere, here, journal
from hatrace.errors import EnvironmentLacks, UsageError
from hatrace.model.capture_info import CaptureInfo
from hatrace.model.event import Action, Event, Tick
from hatrace.model.finding import Change, Confidence, Finding, FindingChange, Severity
from tests import factories as f

GOLDEN = Path(__file__).parents[2] / "golden/v1.hatrace"


def action(text: str = "kill -TERM 812") -> Action:
    return Action(time.monotonic_ns(), text, "it has ended")


def recorded(
    path: Path, info: CaptureInfo | None = None
) -> tuple[list[Event], list[FindingChange]]:
    """A small capture of this host: three ticks, a finding at the second."""
    info = info or here()
    ticks: list[Event] = [Tick(info.started_ns + n) for n in (1, 2, 3)]
    finding = Finding(
        "stream-leak",
        "pid 812",
        Severity.WARNING,
        Confidence.LIKELY,
        "it leaks",
        ticks[1].at_ns,
        ticks[1].at_ns,
        3,
    )
    change = FindingChange(Change.OPENED, finding)
    with Writer(path, info) as writer:
        writer.write(ticks[0])
        writer.write(ticks[1])
        writer.found(change)
        writer.write(ticks[2])
    return ticks, [change]


def test_a_new_capture_holds_actions_and_evidence(tmp_path: Path) -> None:
    path = tmp_path / "new.hatrace"
    book = journal(path)
    seen, done = f.open_scan(time.monotonic_ns(), f.flow()), action()
    book.saw(seen)
    book.write(done)
    book.close()
    capture = read(path)
    assert list(capture.events) == [seen, done]
    assert capture.info.rung == "netlink" and capture.info.blind_spots
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_name_that_no_file_may_have(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentLacks, match="File name too long"):
        journal(tmp_path / ("x" * 300))


@contextmanager
def no_room() -> Iterator[None]:
    """No file may grow beyond a few bytes, as on a full disk; no fixture: pytest writes, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_an_old_one_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "old.hatrace"
    recorded(path)
    before = path.read_bytes()
    book = journal(path)
    book.write(action())
    with no_room(), pytest.raises(EnvironmentLacks, match="cannot append to") as caught:
        book.close()
    assert "it is as it was" in caught.value.do and "is kept" not in caught.value.do
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["old.hatrace"]


def test_a_disk_that_is_full_already_is_said_before_anything_is_done(tmp_path: Path) -> None:
    path = tmp_path / "old.hatrace"
    recorded(path)
    with no_room(), pytest.raises(EnvironmentLacks, match=r"cannot append to .*/old\.hatrace: "):
        journal(path)
    assert [each.name for each in tmp_path.iterdir()] == ["old.hatrace"]


def test_a_new_one_that_cannot_take_the_name_is_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "old.hatrace"
    recorded(path)
    book = journal(path)
    book.write(action())
    (unfinished,) = set(tmp_path.iterdir()) - {path}
    unfinished.unlink()
    with pytest.raises(EnvironmentLacks, match=r"cannot append to .*: No such file") as caught:
        book.close()
    assert "it is as it was" in caught.value.do


def test_what_cannot_even_be_removed_hides_no_reason(tmp_path: Path) -> None:
    """No folder is there any more: removing what is in it is another error than that it is gone."""
    folder = tmp_path / "folder"
    folder.mkdir()
    recorded(folder / "old.hatrace")
    book = journal(folder / "old.hatrace")
    book.write(action())
    folder.rename(tmp_path / "moved")
    folder.write_text("a file")
    with pytest.raises(EnvironmentLacks, match=r"cannot append to .*: Not a directory"):
        book.close()


@pytest.mark.parametrize("name", ["old.hatrace", "x" * 255])
def test_no_name_and_no_stale_file_is_in_the_way(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    recorded(path)
    stale = tmp_path / f".{name[:200]}.{os.getpid()}"
    stale.write_text("another's")
    book, done = journal(path), action()
    book.write(done)
    book.close()
    assert list(read(path).events)[-1] == done
    assert stale.read_text() == "another's"
    assert {each.name for each in tmp_path.iterdir()} == {name, stale.name}


def test_an_old_one_keeps_all_it_had_and_gets_the_actions(tmp_path: Path) -> None:
    path = tmp_path / "old.hatrace"
    ticks, changes = recorded(path)
    book = journal(path)
    done = [action("one"), action("two")]
    book.saw(f.open_scan(1, f.flow()))
    for each in done:
        book.write(each)
    book.close()
    capture = read(path)
    assert list(capture.events) == [*ticks, *done]
    assert list(capture.findings) == changes
    assert [each.name for each in tmp_path.iterdir()] == ["old.hatrace"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_without_an_action_an_old_one_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "old.hatrace"
    recorded(path)
    before = path.read_bytes()
    journal(path).close()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"host": "elsewhere"}, "recorded on elsewhere"),
        ({"started_unix_ns": 1_700_000_000_000_000_000}, "started the last time"),
        ({"redacted": True}, "redacted"),
    ],
)
def test_only_a_capture_of_this_host_and_boot(
    tmp_path: Path, change: dict[str, object], why: str
) -> None:
    path = tmp_path / "other.hatrace"
    recorded(path, replace(here(), **change))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=why):
        journal(path)


def test_a_torn_one_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    path = tmp_path / "torn.hatrace"
    recorded(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UsageError, match="damaged, or still being recorded"):
        journal(path)


def test_one_with_a_finding_that_cannot_be_copied_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.hatrace"
    with Writer(path, here()) as writer:
        writer._mcap.add_message(writer._channels[FindingChange], 2, b'{"broken":1}', 2)
    with pytest.raises(UsageError, match="finding-change"):
        journal(path)


def test_a_capture_from_elsewhere_is_never_appended_to() -> None:
    before = GOLDEN.read_bytes()
    with pytest.raises(UsageError):
        journal(GOLDEN)
    assert GOLDEN.read_bytes() == before


def test_no_file_no_capture() -> None:
    assert isinstance(journal(None), Nowhere)
