"""What `record` writes, option by option, and `--check-events`, with a real HAProxy."""

from __future__ import annotations

import json
import platform
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatrace.capture.reader import read
from hatrace.lab.haproxy import HAProxy
from hatrace.lab.peers import Call, start
from hatrace.lab.scenario import Running
from hatrace.lab.scenarios import SCENARIOS
from hatrace.lab.scenarios.check_leak import SERVERS
from hatrace.lab.stage import Stage, wait_until
from hatrace.model.event import CheckResult, Finished, Open, Tick, Trouble
from tests.kernel.running import Ended, Hatrace, run


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


@pytest.fixture(scope="module")
def leaking(stage: Stage) -> Running:
    running = SCENARIOS["check-leak"].play(stage, None)
    front = running.facts["front"]
    assert isinstance(front, int)
    start(stage, [Call("close", front, per_second=100, send="x\n")], "load")
    return running


@pytest.fixture
def scope(leaking: Running) -> list[str]:
    return ["--pid", str(leaking.haproxy.pid)]


def record(*words: str, seconds: int = 5) -> Ended:
    return run("record", *words, "-d", f"{seconds}s", "--json")


def test_everything_is_recorded_and_reported(scope: list[str], tmp_path: Path) -> None:
    capture = tmp_path / "x.hatrace"
    live = record(*scope, "-o", str(capture))
    ended = run("export", str(capture))
    flows = [json.loads(line) for line in ended.out.splitlines()]
    assert sum(flow["seen"] == "ended" for flow in flows) > 100
    assert any(flow["seen"] == "open" and flow["state"] == "CLOSE_WAIT" for flow in flows)
    replayed = run("replay", "--json", str(capture))
    assert [row for row in replayed.rows if row["type"] == "finding"] == live.findings()
    for style in ("text", "markdown", "json"):
        report = run("report", "--format", style, str(capture))
        assert (report.code, report.errors) == (1, "")
        assert "check-leak" in report.out


def test_summary_has_no_finished_flows_and_the_same_findings(
    scope: list[str], tmp_path: Path
) -> None:
    capture = tmp_path / "x.hatrace"
    live = record(*scope, "--detail", "summary", "-o", str(capture))
    assert (live.code, live.slugs) == (1, {"check-leak"}), live.errors
    kinds = {type(event) for event in read(capture).events}
    assert Finished not in kinds
    assert {Open, Tick} <= kinds
    replayed = run("replay", "--json", str(capture))
    assert [row for row in replayed.rows if row["type"] == "finding"] == live.findings()


def test_a_size_limit_is_kept_and_said(scope: list[str], tmp_path: Path) -> None:
    capture, most_bytes = tmp_path / "x.hatrace", 60_000
    live = record(*scope, "--max-size", str(most_bytes), "-o", str(capture), seconds=12)
    assert live.slugs == {"check-leak"}
    assert capture.stat().st_size < most_bytes * 2
    events = list(read(capture).events)
    said = [each.why for each in events if isinstance(each, Trouble) and "size" in each.why]
    assert said
    assert run("report", str(capture)).code == 1


def test_redacted_means_that_nothing_tells_who(
    leaking: Running, scope: list[str], tmp_path: Path
) -> None:
    capture = tmp_path / "x.hatrace"
    live = record(*scope, "--redact", "-o", str(capture))
    assert live.slugs == {"check-leak"}
    said = "".join(
        run("report", "--format", style, str(capture)).out for style in ("text", "json", "markdown")
    )
    said += run("export", str(capture)).out + run("replay", "--json", str(capture)).out
    names = ("app/s1", str(leaking.haproxy.config.parent), f'"{platform.node()}"')
    assert [name for name in names if name in said] == []
    assert "check-leak" in said
    assert read(capture).info.redacted


def test_an_existing_file_is_not_overwritten(scope: list[str], tmp_path: Path) -> None:
    capture = tmp_path / "x.hatrace"
    capture.write_text("precious")
    ended = record(*scope, "-o", str(capture))
    assert ended.code == 2
    assert "--force" in ended.errors
    assert capture.read_text() == "precious"
    assert record(*scope, "-o", str(capture), "--force", seconds=1).errors == ""
    assert capture.stat().st_mode & 0o777 == 0o600


def trace_is_on(haproxy: HAProxy) -> bool:
    """Whether HAProxy says that its trace of checks runs; without an answer it is not known."""
    found = re.search(r"\[(.)\] check ", haproxy.ask("trace"))
    assert found, "this HAProxy has no trace of checks"
    return found[1] == "R"


def test_check_events_are_on_while_it_watches(
    leaking: Running, scope: list[str], tmp_path: Path
) -> None:
    capture = tmp_path / "x.hatrace"
    assert not trace_is_on(leaking.haproxy)
    with Hatrace("record", *scope, "--check-events", "--json", "-o", str(capture)) as hatrace:
        assert wait_until(lambda: trace_is_on(leaking.haproxy))
        so_far = hatrace.finding("check-leak")["count"]
        every_server_twice = so_far + 2 * SERVERS
        hatrace.row(lambda row: row.get("finding", {}).get("count", 0) >= every_server_twice)
        ended = hatrace.end(signal.SIGTERM)
    assert ended.errors == ""
    assert not trace_is_on(leaking.haproxy)
    results = [event for event in read(capture).events if isinstance(event, CheckResult)]
    assert {event.server for event in results} >= {"app/s1", "app/s8"}


def test_check_events_are_off_without_being_asked_for(leaking: Running, scope: list[str]) -> None:
    with Hatrace("live", *scope, "--json") as hatrace:
        hatrace.finding("check-leak", "updated")
        assert not trace_is_on(leaking.haproxy)
        hatrace.end(signal.SIGINT)


def test_check_events_left_on_by_kill_9_are_cleared_by_the_next_start(
    leaking: Running, scope: list[str]
) -> None:
    with Hatrace("live", *scope, "--check-events", "--json") as hatrace:
        assert wait_until(lambda: trace_is_on(leaking.haproxy))
        hatrace.end(signal.SIGKILL)
    assert trace_is_on(leaking.haproxy), "nobody could switch it off"
    with Hatrace("live", *scope, "--json") as hatrace:
        hatrace.started()
        assert not trace_is_on(leaking.haproxy)
        assert hatrace.end(signal.SIGINT).errors == ""
