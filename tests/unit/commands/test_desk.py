"""What an action's user is shown and asked, and that nothing happens without an answer."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatrace import cli
from hatrace.actions.desk import Change, Result
from hatrace.capture.reader import is_closed, read
from hatrace.commands._desk import counter, require_consent, table
from hatrace.commands._journal import Nowhere, journal
from hatrace.errors import EnvironmentLacks, UsageError
from hatrace.model.event import Action
from hatrace.model.finding import Evidence, Step

GONE = str(2**22 - 1)
"""A pid that no process has."""


@pytest.fixture
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Standard input is what a script has."""
    with Path("/dev/null").open() as null:
        monkeypatch.setattr("sys.stdin", null)
        yield


CHANGE = Change("put be/s1 into maintenance", "disable it", "enable it", "disable server be/s1")


@pytest.mark.usefixtures("no_terminal")
def test_nobody_to_ask_is_a_no() -> None:
    with pytest.raises(UsageError, match="nobody to ask"):
        require_consent(yes=False, dry_run=False)
    require_consent(yes=True, dry_run=False)
    require_consent(yes=False, dry_run=True)


@pytest.mark.parametrize(
    "words",
    [
        ["drain", "be/s1"],
        ["retire", "1"],
        ["close", "--state", "close-wait"],
    ],
)
@pytest.mark.usefixtures("no_terminal")
def test_each_action_asks_for_somebody_to_ask(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(words) == 2
    assert "nobody to ask" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["close", "--yes"], "every connection"),
        (["close", "--pid", "1", "--yes"], "every connection"),
        (["close", "--dst", "junk", "--yes"], "no address and port"),
        # "$SERVER" of a script that never set it: without --dst that would be all of them
        (["close", "--pid", GONE, "--state", "close", "--dst", "", "--yes"], "no address and port"),
        (["close", "--pid", GONE, "--state", "close", "--src", "", "--yes"], "no address and port"),
        (["close", "--state", "listen", "--yes"], "'listen' is not one of"),
        (["close", "--capture", "x.hatrace", "--yes"], "which finding"),
        (["retire", "0", "--yes"], "0 is not in the range"),
    ],
)
def test_what_makes_no_sense_is_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(words) == 2
    assert said in capsys.readouterr().err


def test_the_way_back_is_said_whatever_happens(capsys: pytest.CaptureFixture[str]) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        counter(Nowhere(), yes=True, dry_run=False, as_json=False) as desk,
    ):
        assert desk.agreed(CHANGE)
        desk.did(CHANGE, "its status is MAINT")
        raise KeyboardInterrupt
    out = capsys.readouterr().out
    assert out.endswith("to undo:\n    enable it\n")
    assert "next: put be/s1 into maintenance\n    disable it\n" in out


class Gone(io.StringIO):
    """A reader that has left: ``| head -6``."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_what_was_done_is_kept_though_nobody_reads_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "done.hatrace"
    with (
        pytest.raises(BrokenPipeError),
        counter(journal(path), yes=True, dry_run=False, as_json=False) as desk,
    ):
        monkeypatch.setattr("sys.stdout", Gone())
        desk.did(CHANGE, "its status is MAINT")
    assert is_closed(path)
    (kept,) = read(path).events
    assert isinstance(kept, Action) and kept.command == "disable server be/s1"


def test_a_question_that_nobody_can_see_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(EnvironmentLacks, match="cannot ask"),
        counter(Nowhere(), yes=False, dry_run=False, as_json=False) as desk,
    ):
        monkeypatch.setattr("sys.stderr", Gone())
        desk.agreed(CHANGE)


def test_a_dry_run_says_no(capsys: pytest.CaptureFixture[str]) -> None:
    with counter(Nowhere(), yes=True, dry_run=True, as_json=False) as desk:
        assert not desk.agreed(CHANGE)
    assert capsys.readouterr().out == "would: put be/s1 into maintenance\n    disable it\n"


def test_what_came_from_outside_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    evil = Evidence("tcp", pid=7, note="\x1b[2J")
    assert table([evil])[1].endswith("\\x1b[2J")
    with counter(Nowhere(), yes=True, dry_run=False, as_json=False) as desk:
        desk.say("\x1b[31m")
        desk.agreed(Change("\x07", "\x1b]0;x\x07"))
        desk.show("\x1b", [evil])
        desk.conclude(Result(1, "\x1b", (Step("\x1b", "\x1b"),)))
    assert "\x1b" not in capsys.readouterr().out


def test_the_exit_code_says_whether_something_is_left() -> None:
    with counter(Nowhere(), yes=True, dry_run=False, as_json=True) as desk:
        assert desk.conclude(Result(0, "done")) == 0
        assert desk.conclude(Result(3, "not done")) == 1


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with counter(Nowhere(), yes=True, dry_run=False, as_json=True) as desk:
        desk.say("a fact")
        desk.show("sockets", [Evidence("tcp", pid=7, fd=3, note="\x1b")])
        desk.agreed(CHANGE)
        desk.did(CHANGE, "its status is MAINT")
        desk.conclude(Result(2, "two left", (Step("again", "hatrace drain be/s1"),)))
    text = capsys.readouterr().out
    lines = [json.loads(line) for line in text.splitlines()]
    kinds = ["fact", "sockets", "step", "action", "end", "undo"]
    assert [line["type"] for line in lines] == kinds
    assert text.isascii() and all(line["at"].endswith("Z") for line in lines)
    assert lines[1]["sockets"][0]["fd"] == 3
    assert lines[2]["decision"] == "yes" and lines[2]["command"] == "disable it"
    assert lines[3]["action"]["command"] == "disable server be/s1"
    assert lines[4]["left"] == 2 and lines[4]["next_steps"][0]["text"] == "again"
    assert lines[5]["commands"] == ["enable it"]
