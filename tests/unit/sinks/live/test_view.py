"""Pictures as text: the facts an SRE looks for are on the screen, at every size."""

from __future__ import annotations

import io
import subprocess
from dataclasses import replace

import pytest
from rich.console import Console

from hatrace.model.attribution import Role
from hatrace.model.event import Losses
from hatrace.model.finding import Finding, Severity
from hatrace.sinks.live.evidence import pasteable
from hatrace.sinks.live.frame import Frame, before_first_tick
from hatrace.sinks.live.keys import Sort, Tab, ViewState
from hatrace.sinks.live.pace import Pace
from hatrace.sinks.live.state import Folder
from hatrace.sinks.live.tables import target_rows
from hatrace.sinks.live.view import draw
from tests import factories as make
from tests.unit.sinks import story

SIZES = ((80, 24), (120, 40), (200, 50))
WORLD = story.table(120)


def frame(*findings: Finding) -> Frame:
    return Folder().fold(WORLD, story.verdict(*findings))


def picture(
    shown: Frame,
    state: ViewState | None = None,
    size: tuple[int, int] = (120, 40),
    opened: Finding | None = None,
    pace: Pace | None = None,
) -> list[str]:
    """The screen's lines, as a terminal of that size would show them, without colour."""
    console = Console(file=io.StringIO(), width=size[0], height=size[1], color_system=None)
    screen = draw(console, shown, state or ViewState(), *size, pace=pace, opened=opened)
    return ["".join(segment.text for segment in line) for line in screen.picture]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("number", [0, 1, 3, 40])
def test_every_size_is_filled_and_never_overflows(size: tuple[int, int], number: int) -> None:
    findings = [story.finding(subject=str(n)) for n in range(number)]
    for tab in Tab:
        lines = picture(frame(*findings), ViewState(tab=tab), size)
        assert len(lines) == size[1]
        assert max(map(len, lines)) <= size[0]
        assert lines[-1].startswith("q quit")
        assert any(line.startswith("─ ") for line in lines), "no room left for a table"


@pytest.mark.parametrize("width", [80, 100, 110])
def test_a_long_result_gives_way_to_what_is_held(width: int) -> None:
    shown = frame()
    checks = tuple(replace(row, last_result="closed by the peer, held") for row in shown.checks)
    lines = picture(replace(shown, checks=checks), ViewState(tab=Tab.CHECKS), (width, 24))
    names = next(number for number, line in enumerate(lines) if line.startswith("server "))
    assert lines[names].endswith("  held" if width >= 100 else " held")
    assert lines[names + 1].endswith(" 60 !") and "closed by" in lines[names + 1]


@pytest.mark.parametrize("size", SIZES)
def test_a_finding_is_read_at_one_glance(size: tuple[int, int]) -> None:
    lines = picture(frame(story.finding()), size=size)
    top = " ".join(" ".join(lines[:12]).split())
    for fact in (
        "CRITICAL check-leak health-check sockets of be/s1 to 192.0.2.1:8000",
        "60 held +30/min",
        "75 of 4,096, full in 2h14m",
        "systemctl reload",
    ):
        assert fact in top


@pytest.mark.parametrize("size", SIZES)
def test_the_header_says_host_versions_rung_losses_and_cost(size: tuple[int, int]) -> None:
    first, second = picture(frame(), size=size)[:2]
    for fact in ("lb1", "HAProxy 2.6.12", "worker 100, master 99", "2m"):
        assert fact in first
    for fact in ("rung cgroup", "blind: 2", "scope haproxy", "lost 0", "self cpu 1.2% 48 MiB"):
        assert fact in second


def test_losses_are_loud_and_named() -> None:
    calm = frame()
    losses = Losses(make.at(1), ring_full=120, targets_full=12)
    loud = replace(calm, header=replace(calm.header, losses=losses))
    assert "LOST 132 events (ring full 120, targets full 12)" in picture(loud)[1]


def test_without_a_finding_it_says_what_is_watched_and_since_when() -> None:
    text = "\n".join(picture(frame()))
    assert "No finding since " in text
    assert "(2m). Watching HAProxy 2.6.12 worker 100, master 99, 8 servers, 16 targets." in text


def test_more_findings_than_room_are_counted_and_the_chosen_one_is_there() -> None:
    findings = [story.finding(subject=f"{n:02}", claim=f"claim {n:02}") for n in range(40)]
    state = ViewState(selected=("check-leak", "25"))
    text = "\n".join(picture(frame(*findings), state, (80, 24)))
    assert "40 findings: 40 critical" in text
    assert "claim 25" in text
    assert "more findings above" in text and "more findings below" in text


def test_the_evidence_page_has_everything_to_scroll_through() -> None:
    finding = story.finding(caveat="5 events were lost")
    shown, text = frame(finding), ""
    for scroll in range(0, 80, 10):
        state = ViewState(evidence=True, selected=finding.key, scroll=scroll)
        text += " ".join("\n".join(picture(shown, state, (80, 24), finding)).split())
    for fact in (
        "ss -K dst 192.0.2.1 dport = 8000",
        "No more growth for five minutes",
        "HAProxy let the check end without closing its socket",
        "a slow server: other servers at the same interval answer in 2 ms",
        "GH #0000: an example of a published bug (fixed in 2.6.13)",
        "(4,096 - 75) / 30 per minute = 2 h 14 min",
        "5 events were lost",
        "Evidence: 12 of 60, the oldest first",
        "192.0.2.1:8000 ESTABLISHED live",
        "fd 31",
    ):
        assert fact in text


def test_a_long_command_can_still_be_pasted() -> None:
    """A real shell reads the folded command as it reads the whole one."""
    command = "printf '<%s>' 'show fd  x' \"it's\" a\\ b -t 5 UNIX-CONNECT:/run/haproxy-master.sock"
    folded = pasteable(command, 40)
    assert len(folded) > 1 and max(map(len, folded)) <= 40
    read = [
        subprocess.run(["sh", "-c", text], capture_output=True, check=True).stdout
        for text in (command, "\n   ".join(folded))
    ]
    assert (
        read[0]
        == read[1]
        == b"<show fd  x><it's><a b><-t><5><UNIX-CONNECT:/run/haproxy-master.sock>"
    )
    assert pasteable(command, 200) == [command]
    assert pasteable("", 40) == []


def test_a_finding_that_goes_while_it_is_read_stays_and_says_so() -> None:
    finding = story.finding()
    state = ViewState(evidence=True, selected=finding.key)
    assert "RESOLVED" in "\n".join(picture(frame(), state, opened=finding))
    assert "RESOLVED" not in "\n".join(picture(frame(finding), state, opened=finding))


def test_nothing_from_outside_reaches_the_terminal() -> None:
    nasty = "\x1b[2J\x9b5m[red]x[/red]\r\n\u202e"
    process = make.process(version=nasty)
    world = story.table(4)
    world.apply(make.processes(make.at(4), process))
    world.apply(make.servers(make.at(4), make.server(nasty)))
    world.apply(make.trouble(make.at(4), subject=nasty, why=nasty, do=nasty))
    evidence = tuple(replace(one, comm=nasty, note=nasty) for one in story.finding().evidence)
    finding = story.finding(claim=nasty, cause=nasty, evidence=evidence, subject=nasty)
    shown = Folder().fold(world, story.verdict(finding))
    for state in (
        ViewState(filter=nasty, typing=True),
        ViewState(evidence=True, selected=finding.key),
        ViewState(help=True),
        ViewState(tab=Tab.CHECKS),
    ):
        for line in picture(shown, state, opened=finding):
            assert line.isprintable(), line
    assert "[red]x[/red]" in "\n".join(picture(shown))


def test_meaning_is_in_words_and_no_color_drops_only_colour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    console = Console(file=io.StringIO(), width=120, height=40, force_terminal=True)
    screen = draw(console, frame(story.finding()), ViewState(), 120, 40)
    console.set_alt_screen()
    with console.capture() as captured:
        console.update_screen_lines(screen.picture)
    text = captured.get()
    assert "CRITICAL" in text
    assert ";31m" not in text and "\x1b[31m" not in text and ";41m" not in text


def test_troubles_are_listed_below_the_findings() -> None:
    world = story.table(4)
    for number in range(5):
        world.apply(make.trouble(make.at(4), subject=f"/run/{number}.sock", do="run as root"))
    text = "\n".join(picture(Folder().fold(world, story.verdict())))
    assert "TROUBLE  runtime-api /run/0.sock: permission denied; do: run as root" in text
    assert "TROUBLE  3 more sources" in text


def test_groups_that_hold_something_come_first_then_servers() -> None:
    rows = target_rows(frame(), ViewState())
    assert (rows[0].role, rows[0].name) == (Role.CHECK, "be/s1")
    roles = [row.role for row in rows]
    assert roles == [Role.CHECK] * 8 + [Role.SERVER] * 7 + [Role.CLIENT]


def test_sort_and_filter() -> None:
    most_open = target_rows(frame(), ViewState(sort=Sort.OPEN))
    assert [row.open for row in most_open] == sorted((row.open for row in most_open), reverse=True)
    only = target_rows(frame(), ViewState(filter="BE/S1"))
    assert {row.name for row in only} == {"be/s1"}
    assert 'filter "be/s1"' in "\n".join(picture(frame(), ViewState(filter="be/s1")))


def test_hidden_rows_are_counted_and_can_be_scrolled_to() -> None:
    findings = (story.finding(),)
    first = "\n".join(picture(frame(*findings), size=(80, 24)))
    assert "rows hidden: 6 below" in first
    assert "client fe" not in first
    last = "\n".join(picture(frame(*findings), ViewState(scroll=10**9), size=(80, 24)))
    assert "rows hidden: 6 above;" in last
    assert "client fe" in last


def test_the_check_table_says_what_is_held_beyond_health() -> None:
    text = "\n".join(picture(frame(), ViewState(tab=Tab.CHECKS)))
    assert "8 health checks: 60 held" in text
    assert "60 !" in text


def test_pause_and_replay_are_in_the_header() -> None:
    assert " PAUSED " in picture(frame(), ViewState(paused=True))[0]
    assert " REPLAY x4 " in picture(frame(), pace=Pace(4))[0]


def test_before_the_first_tick_there_is_a_picture_too() -> None:
    starting = before_first_tick(make.info())
    assert "nothing has been looked at yet" in "\n".join(picture(starting))
    assert "lb1" in picture(starting)[0]


def test_severities_are_counted_in_the_title() -> None:
    findings = [
        story.finding(subject="a"),
        story.finding(subject="b", severity=Severity.NOTICE),
    ]
    assert "2 findings: 1 critical, 1 notice" in "\n".join(picture(frame(*findings)))
