"""From a real leak in a real HAProxy, through this kernel, to the finding: as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from hatrace.lab.scenario import Running, Scenario
from hatrace.lab.scenarios import SCENARIOS
from hatrace.lab.scenarios.check_leak import SERVERS
from hatrace.lab.stage import Stage, wait_until
from tests.kernel.running import Ended, Hatrace, run

SECOND_NS = 1_000_000_000
ATTACH_S = 3.0
"""Start and attaching, on a busy machine, before a scenario's three intervals count."""

LEAKS = [scenario for scenario in SCENARIOS.values() if scenario.expects]


@pytest.fixture
def leaking() -> Iterator[Running]:
    """A HAProxy whose health checks have leaked already, and go on to."""
    with Stage() as stage:
        running = SCENARIOS["check-leak"].play(stage, None)
        worker = running.haproxy.worker()
        assert wait_until(lambda: min(close_waits(worker)) >= 3), "of every server's checks"
        yield running


@pytest.fixture
def healthy() -> Iterator[Running]:
    with Stage() as stage:
        yield SCENARIOS["healthy"].play(stage, None)


def close_waits(pid: int) -> list[int]:
    """Of each server's address, sockets of a process whose peer has closed, by ss."""
    words = ["ss", "-Htanp", "state", "close-wait"]
    rows = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    held = Counter(row.split()[3].rpartition(":")[0] for row in rows if f"pid={pid}," in row)
    return [held[f"127.0.1.{n}"] for n in range(1, SERVERS + 1)]


def lost_for_good(losses: Mapping[str, int]) -> set[str]:
    """An end that was told late (`overwritten`) is not lost, nor is a suspect beyond a scan's
    most (`scan_truncated`: a storm), which is there at the next."""
    kept = {"at_ns", "overwritten", "scan_truncated"}
    return {name for name, count in losses.items() if count and name not in kept}


@pytest.mark.parametrize("scenario", LEAKS, ids=[scenario.name for scenario in LEAKS])
def test_a_leak_is_named_live_and_the_same_from_its_capture(
    scenario: Scenario, tmp_path: Path
) -> None:
    capture = tmp_path / "lab.hatrace"
    seconds = 3 * scenario.interval_s + ATTACH_S
    live = run("lab", scenario.name, "-d", f"{seconds}s", "--json", "-o", str(capture))
    assert live.code == 1, live.errors
    assert scenario.expects is not None
    true = {the_slug(scenario), *scenario.expects.also}
    assert the_slug(scenario) in live.slugs <= true, live.slugs
    first = live.findings()[0]["finding"]
    waited_ns = first["at_ns"] - live.rows[0]["info"]["started_ns"]
    assert waited_ns <= (3 * scenario.interval_s + ATTACH_S) * SECOND_NS
    causes = [row["finding"]["cause"] for row in live.findings()]
    assert any(the_cause(scenario).lower() in cause.lower() for cause in causes), causes
    assert lost_for_good(live.rows[-1]["losses"]) == set()
    replayed = run("replay", "--json", str(capture))
    assert finding_lines(replayed) == finding_lines(live)
    assert replayed.code == live.code


def the_slug(scenario: Scenario) -> str:
    assert scenario.expects
    return scenario.expects.slug


def the_cause(scenario: Scenario) -> str:
    assert scenario.expects
    return scenario.expects.cause


def finding_lines(ended: Ended) -> list[str]:
    """As they were printed, byte for byte."""
    return [line for line in ended.out.splitlines() if '"type":"finding"' in line]


def test_what_report_concludes_is_what_was_said_live(leaking: Running, tmp_path: Path) -> None:
    capture = tmp_path / "x.hatrace"
    live = run("record", *scope(leaking), "-d", "4s", "--json", "-o", str(capture))
    report = json.loads(run("report", "--json", str(capture)).out)
    last = {row["finding"]["subject"]: row["finding"] for row in live.findings()}
    assert {each["subject"]: each["claim"] for each in report["findings"]} == {
        subject: finding["claim"] for subject, finding in last.items()
    }
    exported = run("export", "--what", "findings", str(capture)).out.splitlines()
    said = [json.loads(line)["claim"] for line in exported]
    assert {finding["claim"] for finding in last.values()} <= set(said)


def scope(running: Running) -> list[str]:
    return ["--pid", str(running.haproxy.pid)]


def test_healthy_load_with_reloads_gives_no_finding_and_no_loss(healthy: Running) -> None:
    ended = run("live", *scope(healthy), "-d", "25s", "--json")
    assert (ended.code, ended.findings(), ended.errors) == (0, [], "")
    assert lost_for_good(ended.rows[-1]["losses"]) == set()


def test_a_standing_leak_is_named_at_once_and_as_older_than_hatrace(leaking: Running) -> None:
    with Hatrace("live", *scope(leaking), "--json") as hatrace:
        began_ns = hatrace.started()["info"]["started_ns"]
        first = hatrace.finding("check-leak")
        assert first["at_ns"] - began_ns <= ATTACH_S * SECOND_NS
        assert first["evidence"][0]["preexisting"] is True
        assert first["evidence"][0]["pid"] == leaking.haproxy.worker()
        assert first["evidence"][0]["fd"] is not None
        ended = hatrace.end(signal.SIGINT)
    assert first["preexisting"] >= SERVERS, "each server's, at least"
    assert (ended.code, ended.rows[-1]["type"], ended.errors) == (130, "end", "")


def test_the_netlink_rung_names_it_as_well(leaking: Running) -> None:
    ended = run("live", *scope(leaking), "--rung", "netlink", "-d", "6s", "--json")
    assert ended.rows[0]["info"]["rung"] == "netlink"
    assert any("sampled" in spot for spot in ended.rows[0]["info"]["blind_spots"])
    assert (ended.code, ended.slugs) == (1, {"check-leak"}), ended.errors
    assert ended.findings()[-1]["finding"]["growth"]["per_minute"] > 0


def test_a_leak_that_ends_is_resolved(leaking: Running) -> None:
    """The worker that held the sockets ends, and with it the finding; the master stays."""
    with Hatrace("live", *scope(leaking), "--json") as hatrace:
        worker = hatrace.finding("check-leak")["evidence"][0]["pid"]
        os.kill(leaking.haproxy.pid, signal.SIGTERM)
        assert wait_until(lambda: not Path(f"/proc/{worker}").exists())
        hatrace.finding("check-leak", "resolved")
        assert "ended while traced" in hatrace.trouble("haproxy")["why"]
        ended = hatrace.end(signal.SIGTERM)
    assert (ended.code, ended.errors) == (143, "")
    assert ended.rows[-1]["findings"] == 0


def test_a_worker_that_crashes_while_traced(leaking: Running) -> None:
    with Hatrace("live", *scope(leaking), "--json") as hatrace:
        worker = hatrace.finding("check-leak")["evidence"][0]["pid"]
        os.kill(worker, signal.SIGKILL)
        hatrace.finding("check-leak", "resolved")
        ended = hatrace.end(signal.SIGTERM)
    assert (ended.code, ended.errors) == (143, "")


def test_the_new_worker_of_a_reload_is_followed(leaking: Running) -> None:
    """It leaks as well: the finding then speaks of the new worker's sockets, too."""
    with Hatrace("live", *scope(leaking), "--json") as hatrace:
        old = hatrace.finding("check-leak")["evidence"][0]["pid"]
        new = leaking.haproxy.reload()
        hatrace.row(lambda row: str(new) in json.dumps(row.get("finding", {}).get("evidence")))
        ended = hatrace.end(signal.SIGINT)
    assert old != new
    assert ended.errors == ""
    assert ended.slugs >= {"check-leak"}


def test_haproxy_restarted_while_traced(tmp_path: Path) -> None:
    """The whole instance goes, and another comes: said, and nothing breaks."""
    with Stage() as first:
        running = SCENARIOS["check-leak"].play(first, None)
        with Hatrace("live", "--comm", "haproxy", "--json") as hatrace:
            hatrace.started()
            first.close()
            with Stage() as second:
                again = SCENARIOS["check-leak"].play(second, None)
                worker = again.haproxy.worker()
                assert worker != running.haproxy.pid
                hatrace.row(lambda row: f'"pid": {worker},' in json.dumps(row))
            ended = hatrace.end(signal.SIGTERM)
    assert ended.errors == ""
