"""Text and JSON lines: what is said, when, in which shape; and that a reader may leave."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from hatrace.flows.table import Table
from hatrace.model.event import Action, Losses, Tick
from hatrace.model.finding import Change, Finding, Severity
from hatrace.pipeline import Verdict
from hatrace.sinks import json_line
from hatrace.sinks.lines import COUNT_AGAIN_NS, JsonLines, TextLines
from tests import factories as make
from tests.unit.sinks import story

ROOT = Path(__file__).parents[3]


def tick(second: float) -> Tick:
    return Tick(make.at(second))


def short_run(lines: TextLines | JsonLines, finding: Finding) -> None:
    """A trouble, a finding that comes, grows and goes, a loss, an action."""
    world = Table(make.info(blind_spots=("one blind spot",)))
    told = [
        (make.processes(make.at(0)), Verdict()),
        (make.trouble(make.at(1), do="run as root"), Verdict()),
        (make.trouble(make.at(2), do="run as root"), Verdict()),
        (tick(3), story.verdict(finding, change=Change.OPENED)),
        (Losses(make.at(4), ring_full=5), story.verdict(finding)),
        (Losses(make.at(5), ring_full=5), story.verdict(finding)),
        (tick(6), story.verdict(replace(finding, count=99), change=Change.UPDATED)),
        (make.trouble(make.at(7), over=True), story.verdict(finding)),
        (Action(make.at(8), "close", "2 sockets"), story.verdict(finding)),
        (tick(9), Verdict((), story.verdict(finding, change=Change.RESOLVED).changes)),
    ]
    with lines:
        for event, verdict in told:
            world.apply(event)
            lines.accept(event, world, verdict)


def parsed(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_has_each_change_once_and_in_order() -> None:
    stream = io.StringIO()
    short_run(JsonLines(stream), story.finding())
    rows = parsed(stream)
    assert [row["type"] for row in rows] == [
        "start",
        "trouble",
        "finding",
        "loss",
        "finding",
        "trouble",
        "action",
        "finding",
        "end",
    ]
    changes = [row["change"] for row in rows if row["type"] == "finding"]
    assert changes == ["opened", "updated", "resolved"]
    assert rows[3]["lost"] == 5
    assert rows[-1] | {"at": ""} == {
        "type": "end",
        "at": "",
        "findings": 0,
        "findings_seen": 1,
        "losses": msgspec.to_builtins(Losses(make.at(5), ring_full=5)),
        "elapsed_s": 9.0,
    }


def test_json_is_what_the_schema_says() -> None:
    """Decoding is strict: an unknown type, a missing field or a wrong kind raises."""
    stream = io.StringIO()
    told = story.finding()
    short_run(JsonLines(stream), told)
    decoded = [
        msgspec.json.decode(line, type=json_line.AnyLine) for line in stream.getvalue().splitlines()
    ]
    start, finding = decoded[0], decoded[2]
    assert isinstance(start, json_line.Start)
    assert start.info == make.info(blind_spots=("one blind spot",))
    assert isinstance(finding, json_line.FindingLine)
    assert finding.finding == told


def test_published_schema_is_the_code_s() -> None:
    published = json.loads((ROOT / "docs/json-lines.schema.json").read_text())
    assert published == json.loads(json.dumps(json_line.schema()))


def test_json_lines_are_ascii_and_nothing_a_terminal_obeys() -> None:
    stream = io.StringIO()
    nasty = story.finding(claim="\x1b[2J\x9b31m \u202e \udc80 \x7f")
    short_run(JsonLines(stream), nasty)
    text = stream.getvalue()
    assert all(char == "\n" or " " <= char <= "~" for char in text)
    row = next(row for row in parsed(stream) if row["type"] == "finding")
    assert row["finding"]["claim"] == nasty.claim  # type: ignore[index]


def test_text_says_severity_claim_time_left_and_next_step() -> None:
    stream = io.StringIO()
    short_run(TextLines(stream), story.finding())
    lines = stream.getvalue().splitlines()
    finding = next(line for line in lines if "critical" in line)
    for part in (
        "check-leak: health-check sockets of be/s1",
        "60 held; +30/min; fd limit of pid 100: 75 of 4,096, full in 2h14m",
        "next: Reload, so that a new worker starts clean: systemctl reload haproxy",
    ):
        assert part in finding
    words = [line.split()[1] for line in lines]
    assert words == [
        "start",
        "trouble",
        "watching",
        "critical",
        "lost",
        "readable",
        "action",
        "resolved",
        "end",
    ]
    assert "lb1" in lines[0]
    assert "blind: one blind spot" in lines[0]
    assert "do: run as root" in lines[1]
    assert "HAProxy 2.6.12 worker 100, master 99" in lines[2]
    assert "5 events lost, 5 events (ring full 5) since the start" in lines[4]
    assert "0 findings open; 1 resolved; 5 events (ring full 5) lost; 9s" in lines[-1]


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"count": 61, "cause": "61 of them", "at_ns": make.at(121)}, False),
        ({"count": 99, "at_ns": make.at(120) + COUNT_AGAIN_NS}, True),
        ({"severity": Severity.WARNING, "at_ns": make.at(121)}, True),
    ],
)
def test_text_repeats_a_growing_count_only_now_and_then(
    change: dict[str, object], again: bool
) -> None:
    stream = io.StringIO()
    world = Table(make.info())
    lines = TextLines(stream)
    first = story.finding()
    lines.accept(tick(120), world, story.verdict(first, change=Change.OPENED))
    before = stream.getvalue()
    second = replace(first, **change)
    lines.accept(tick(121), world, story.verdict(second, change=Change.UPDATED))
    assert (stream.getvalue() != before) is again


def test_text_escapes_what_came_from_outside() -> None:
    stream = io.StringIO()
    short_run(TextLines(stream), story.finding(claim="\x1b[31mred\nnext line"))
    assert "\x1b" not in stream.getvalue()
    assert "\\x1b[31mred\\nnext line" in stream.getvalue()


def test_after_a_failure_there_is_no_last_line() -> None:
    stream = io.StringIO()
    world = Table(make.info())
    with pytest.raises(RuntimeError), JsonLines(stream) as lines:
        lines.accept(tick(1), world, Verdict())
        raise RuntimeError("a defect")
    assert [row["type"] for row in parsed(stream)] == ["start"]


LEAVING = """
import sys, time
from hatrace.flows.table import Table
from hatrace.pipeline import Verdict
from hatrace.model.event import Tick
from hatrace.sinks.lines import JsonLines
from tests import factories as make
world = Table(make.info())
with JsonLines(sys.stdout) as lines:
    lines.accept(Tick(make.at(1)), world, Verdict())
    deadline = time.monotonic() + 30
    while not lines.stop_requested and time.monotonic() < deadline:
        lines.poll()
        time.sleep(0.01)
    assert lines.stop_requested, "nobody told that the reader has gone"
    lines.accept(make.trouble(make.at(2)), world, Verdict())
print("a last word into the pipe that is no more")
sys.exit(7)
"""


def test_a_reader_that_leaves_ends_it_quietly() -> None:
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    process = subprocess.Popen(
        [sys.executable, "-c", LEAVING],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert process.stdout is not None and process.stderr is not None
    assert json.loads(process.stdout.readline())["type"] == "start"
    process.stdout.close()
    complaint = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=60), complaint) == (7, b"")


def test_colour_only_on_a_terminal_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def coloured(stream: io.StringIO) -> bool:
        short_run(TextLines(stream), story.finding())
        return "\x1b[1;31mcritical" in stream.getvalue()

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert coloured(Terminal())
    assert not coloured(io.StringIO())
    for poor in ("dumb", "unknown", ""):
        monkeypatch.setenv("TERM", poor)
        assert not coloured(Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not coloured(Terminal())
