"""scripts/bench: the arithmetic between its samples and its table."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from itertools import chain

import pytest

from bench import against, aims, lost
from bench.against import Beside
from bench.consumer import Recording
from bench.growth import BAR, Growth, Level, plot
from bench.growth import aims as growth_aims
from bench.measure import Sample, alternating
from bench.page import BEGIN, END, replaced
from bench.table import (
    Spread,
    beyond_empty_us,
    file_sizes,
    of_tool,
    per_operation_us,
    programs,
    ratio,
    render,
    spread,
)
from bench.tools import DidNotStart, Tool, attached
from bench.yardstick import yardstick


def sample(tool: str, round_: int, rate: int, bpf_us: float | None = None) -> Sample:
    """One second of ``rate`` operations, each with so much time in BPF."""
    if bpf_us is None:
        return Sample("loop", tool, round_, count=rate, seconds=1.0, work_cpu_s=1.0)
    return Sample(
        "loop",
        tool,
        round_,
        count=rate,
        seconds=1.0,
        cpu_s=0.5,
        work_cpu_s=1.0,
        counted=1000,
        bpf_ns=int(bpf_us * 1000 * 1000),
        bpf_runs=6000,
    )


SAMPLES = [
    sample("nothing", 0, 20_000),
    sample("nothing", 1, 10_000),
    sample("nothing", 2, 30_000),
    sample("hatrace record", 0, 18_000, 2.0),
    sample("hatrace record", 1, 9_500, 3.0),
    sample("hatrace record", 2, 30_000, 1.5),
    sample("tcplife", 0, 10_000, 40.0),
    sample("tcplife", 1, 4_000, 30.0),
    sample("tcplife", 2, 12_000, 30.0),
    Sample("loop", "tcpstates", 0, failure="exit code 1: no tracefs"),
]


FLOORS = ((0, 1.2), (1, 1.0), (2, 0.8))
"""By round, for twice as many runs."""


def test_alternating() -> None:
    tools = [Tool("a", ()), Tool("b", ()), Tool("c", ())]
    order = [(number, tool.name) for number, tool in alternating(tools, 3)]
    assert order == [
        (number, name) for number, names in enumerate(["abc", "cba", "abc"]) for name in names
    ]


def test_spread_of_what_is_known() -> None:
    assert spread([3.0, None, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    assert spread([None]) is None


def test_ratios_are_taken_within_a_round() -> None:
    kept = ratio(SAMPLES, "hatrace record", "nothing", lambda one: one.rate)
    assert kept == Spread(0.95, 0.9, 1.0)
    assert ratio(SAMPLES, "hatrace record", "tcplife", per_operation_us) == Spread(0.05, 0.05, 0.1)


def test_a_round_without_its_partner_is_left_out() -> None:
    alone = [sample("tcplife", 4, 1), *SAMPLES]
    kept = ratio(alone, "tcplife", "nothing", lambda one: one.rate)
    assert kept == Spread(0.4, 0.4, 0.5)


def test_beyond_what_as_many_runs_of_empty_programs_take() -> None:
    empty = [replace(sample("empty programs", n, 20_000, us), bpf_runs=12_000) for n, us in FLOORS]
    beyond_us = beyond_empty_us([*SAMPLES, *empty])
    found = [beyond_us(one) for one in of_tool(SAMPLES, "hatrace record")]
    assert found == pytest.approx([2.0 - 0.6, 3.0 - 0.5, 1.5 - 0.4])
    assert beyond_us(sample("hatrace record", 3, 1, 2.0)) is None, "no empty ones that round"
    assert beyond_us(SAMPLES[0]) is None, "nothing has no programs"


def test_table() -> None:
    names = ["nothing", "hatrace record", "tcplife", "tcpstates"]
    lines = render(SAMPLES, names, "connection").splitlines()
    cells = {
        line.split("|")[1].strip(): [c.strip() for c in line.split("|")[2:-1]]
        for line in lines[2:6]
    }
    assert cells["nothing"] == [
        "20,000 (10,000-30,000)",
        "1.000 (1.000-1.000)",
        "50.0 (33.3-100.0)",
        "-",
        "-",
        "-",
        "-",
    ]
    assert cells["hatrace record"][3:6] == ["2.00 (1.50-3.00)", "6.0 (6.0-6.0)", "27.8 (16.7-52.6)"]
    assert cells["tcpstates"][0] == "cannot run here"
    assert lines[-2] == "- tcpstates cannot run here: exit code 1: no tracefs"
    assert lines[-1] == "- BPF time of hatrace record: 0.050 (0.050-0.100) of tcplife's"


def test_programs_come_dearest_first() -> None:
    rounds = [
        {"release": (0.5, 2.0), "state": (1.0, 10.0), "scan": (0.001, 0.0)},
        {"release": (0.4, 2.0), "state": (1.2, 10.0)},
        {"release": (0.6, 2.0), "state": (1.1, 10.0)},
    ]
    kept = [
        replace(sample("hatrace record", number, 1, 1.6), bpf_us_runs=each)
        for number, each in enumerate(rounds)
    ]
    assert programs(kept, ["nothing", "hatrace record"]) == [
        "- BPF time of hatrace record, by program: "
        "`state` 1.10 us in 10.0 runs; `release` 0.50 us in 2.0 runs"
    ]


def test_file_sizes() -> None:
    wrote = Sample("loop", "x", 0, count=1000, seconds=1, counted=500, output_bytes=60_000)
    assert file_sizes([wrote], ["nothing", "x"], "connection") == [
        "- file of x: 40.0 (40.0-40.0) bytes/connection"
    ]


def test_a_tool_that_fails_is_not_measured() -> None:
    assert [one.tool for one in of_tool(SAMPLES, "tcpstates")] == []


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (("no-such-tool",), "there is no no-such-tool"),
        (("sh", "-c", "echo no BPF here >&2; exit 3"), "exit code 3: no BPF here"),
    ],
)
def test_why_it_did_not_start(command: tuple[str, ...], why: str) -> None:
    with pytest.raises(DidNotStart, match=f"^{why}$"), attached(Tool("x", command)):
        pass


def test_nothing_is_nothing() -> None:
    with attached(Tool("nothing", ())) as running:
        assert running is None


def test_the_page_keeps_what_is_around() -> None:
    begin, other = (BEGIN.format(writer=writer) for writer in ("scripts/bench", "another"))
    around = f"{other}: do not edit -->\ntheirs\n{END}\nbetween\n{begin}: do not edit -->\n"
    page = f"{around}old\n{END}\nafter\n"
    assert replaced(page, "new \\1") == f"{around}\nnew \\1\n\n{END}\nafter\n"
    assert replaced(replaced(page, "new"), "new") == replaced(page, "new")
    assert "theirs" not in replaced(page, "new", "another")
    assert "old" in replaced(page, "new", "another")
    with pytest.raises(ValueError, match="no line begins"):
        replaced("a page without marks", "new")


def test_aims_of_the_loop() -> None:
    [bpf_time] = aims.of_samples(SAMPLES)
    assert (bpf_time.measured, bpf_time.reached) == (
        "2.00 (1.50-3.00) us; 0.050 (0.050-0.100) of it",
        False,
    )
    assert aims.table([bpf_time]).splitlines()[2].endswith("| no       |")


def lost_to(work: str, medians: tuple[float, ...]) -> list[lost.Lost]:
    """To each tool of the work in turn."""
    return [
        lost.Lost(work, tool, median - 0.01, median, median + 0.02)
        for tool, median in zip(lost.TOOLS[work], medians, strict=True)
    ]


def lost_aims(
    loop: tuple[float, ...] = (0, 0, 0, 0), haproxy: tuple[float, ...] = (0, 0, 0)
) -> list[aims.Aim]:
    found = (lost_to("loop", loop), lost_to("close", haproxy), lost_to("keep-alive", haproxy))
    return lost.aims(list(chain(*found)))


@pytest.mark.parametrize(
    ("ours", "theirs", "reached"), [(0.04, 0.5, True), (0.04, 0.3, False), (0.06, 0.9, False)]
)
def test_what_the_loop_may_lose(ours: float, theirs: float, reached: bool) -> None:
    loop = lost_aims(loop=(0.0, 0.01, ours, theirs))[0]
    assert loop.reached is reached
    assert loop.measured.startswith(f"{ours:.1%} ({ours - 0.01:.1%} to {ours + 0.02:.1%}); `tcpl")


@pytest.mark.parametrize(
    ("nothing", "ours", "reached"),
    [(0.015, 0.009, True), (0.005, 0.012, False), (0.015, 0.012, None), (-0.015, 0.03, False)],
)
def test_what_haproxy_may_lose(nothing: float, ours: float, reached: bool | None) -> None:
    """Nothing is told where nothing against nothing loses as much."""
    _, close, kept = lost_aims(haproxy=(nothing, 0.0, ours))
    assert close.reached is kept.reached is reached


def test_ticks_are_taken_off_a_million_flows() -> None:
    one = Recording("full", flows=500_000, seconds=10.0, cpu_s=0.6, idle=0.02)
    assert one.total_s == pytest.approx(1.2)
    assert one.each_s == pytest.approx(0.8)


def test_bars_are_as_long_as_their_values() -> None:
    levels = [
        Level(1_000, 0.1, 0.1, 0, 0, 0.01, 0, 0, 2.0, 3.0, 0),
        Level(10_000, 1, 1, 0, 0, 0, 0, 0, 1.0, 6.0, 0),
    ]
    first, second, _, _, old, _ = plot(tuple(levels)).splitlines()[1:7]
    assert (first.count("#"), second.count("#"), old.count("#")) == (BAR, BAR // 2, BAR // 2)
    assert second.endswith("1.00") and old.endswith("3.00")


def test_growth_is_that_of_old_connections_too() -> None:
    """Flat for new ones is not enough."""
    few, many = (
        Level(flows, 0, 0, 0, 0, 0, 0, 0, 2.0, old_us, 0)
        for flows, old_us in ((1_000, 3.0), (10_000, 6.0))
    )
    assert not growth_aims(Growth((few, many), 0.1))[-1].reached
    assert growth_aims(Growth((few, few), 0.1))[-1].reached


def test_the_yardstick_comes_to_every_cpu() -> None:
    cpus = os.sched_getaffinity(0)
    with yardstick() as stick:
        for cpu in cpus:
            stick.begin()
            time.sleep(0.1)
            assert stick.pipe_s({cpu}) > 0


def test_beside_another_revision_who_comes_first_does_not_count() -> None:
    """The first of two takes a quarter more, whoever that is; ours takes 0.9 of theirs."""
    ours = ({"state": 1.125, "release": 1.125}, {"state": 0.9, "release": 0.9})
    theirs = ({"state": 1.0, "release": 1.0}, {"state": 1.25, "release": 1.25})
    found = Beside("v1", ours, theirs)
    assert found.ratio.median == pytest.approx(0.9)
    assert found.ratio.low == found.ratio.high
    assert "| all " in against.table(found) and "0.900 (0.900-0.900)" in against.table(found)
