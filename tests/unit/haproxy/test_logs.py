"""HAProxy's log lines: which are events, what is new in a ring, in a file, in the journal.

The lines are those of 2.2, 2.6, 3.0 and 3.2, as they were printed.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hatrace.haproxy.asking import Asking
from hatrace.haproxy.journal import entry
from hatrace.haproxy.log_file import MOST_BYTES, Tail
from hatrace.haproxy.log_lines import LONGEST, Said, events, here
from hatrace.haproxy.log_ring import Ring, names
from hatrace.haproxy.logs import Limits, Logs
from hatrace.haproxy.troubles import Troubles
from hatrace.model.event import Event, LogLine, Trouble

DOWN = "Server a/s is DOWN. 0 active and 0 backup servers left."
TRAFFIC = (
    b"<134>Nov 21 10:34:46 localhost haproxy[905]: 127.0.0.1:49380 [21/Nov/2026:10:34:46.722] a"
    b' a/<NOSRV> 0/-1/-1/-1/0 503 217 - - SC-- 1/1/0/0/0 0/0 "GET /x HTTP/1.1"\n'
)


@pytest.mark.parametrize(
    ("head", "pid"),
    [
        (b"<129>Nov 21 10:34:44 localhost haproxy[905]: ", 905),
        (b"<129>Nov  1 10:34:46 haproxy[911]: ", 911),
        (b"2026-11-21T10:34:46.123+00:00 lb1 haproxy[77]: ", 77),
        (b"Nov 21 10:34:46 lb1 my-tag[78]: ", 78),
        (b"<129>1 2026-11-21T10:34:44.123+00:00 lb1 haproxy 905 - - ", 905),
        (b"[WARNING]  (2886) : ", 2886),
        (b"[WARNING] 324/100409 (29418) : ", 29418),
        (b"<1>2026-11-21T10:34:44.123456+00:00 ", None),
        (b"<1>", None),
        (b"", None),
    ],
)
def test_heads(head: bytes, pid: int | None) -> None:
    block = TRAFFIC + head + DOWN.encode() + b"\n" + TRAFFIC
    assert list(events(block)) == [Said(pid, DOWN)]


@pytest.mark.parametrize(
    "text",
    [
        'Health check for server a/s failed, reason: Layer4 connection problem, info: "x"',
        "Agent check for backup server a/s succeeded",
        "Backup Server a/s is UP/READY (leaving forced maintenance).",
        "Server a/s was DOWN and now enters maintenance.",
        "proxy a has no server available!",
        "backend 'a' has no server available!",
        "Proxy a started.",
        "Proxy a stopped (cumulated conns: FE: 1, BE: 1).",
        "Proxy a reached the configured maximum connection limit.",
        "Stopping frontend GLOBAL in 0 ms.",
        "soft-stop running for too long, performing a hard-stop.",
        "New worker (2886) forked",
        "Former worker (2886) exited with code 0 (Exit)",
    ],
)
def test_events(text: str) -> None:
    assert [said.text for said in events(text.encode() + b"\n")] == [text]


@pytest.mark.parametrize(
    "line",
    [
        TRAFFIC,
        b"<134>Nov 21 10:34:46 h haproxy[905]: Connect from 127.0.0.1:1 to 127.0.0.1:2 (a/TCP)\n",
        b'<134>Nov 21 10:34:46 h haproxy[9]: 1.2.3.4:5 "GET /" {x[1]: Server b/s is UP}\n',
        b'Nov 21 10:34:46 h haproxy[9]: {"ua":"[ALERT] (7) : Server b/s is DOWN"}\n',
        b"\n",
    ],
)
def test_what_a_client_can_write_is_no_event(line: bytes) -> None:
    assert list(events(line)) == []


def test_a_very_long_line_is_cut() -> None:
    (said,) = events(b"Server a/s is " + b"x" * 5000 + b"\n")
    assert len(said.text) == LONGEST


def test_pids_of_containers() -> None:
    assert here(7, {7: 4711}) == 4711
    assert here(9, {7: 4711}) == 9
    assert here(None, {}, 812) == 812


def test_names_of_rings() -> None:
    assert names(["/dev/log", "ring@r1", "ring@r1", "ring@a;b", "ring@", "192.0.2.1:514"]) == ["r1"]


def ring(*dumps: list[str]) -> tuple[list[str], bool]:
    """The news of the last dump, and whether there was a gap."""
    one, news = Ring(), b""
    for dump in dumps:
        news = one.new("\n".join([*dump, ""]).encode())
    return news.decode().splitlines(), one.gap


@pytest.mark.parametrize(
    ("dumps", "news", "gap"),
    [
        ((["a", "b"],), [], False),
        ((["a"], ["a"]), [], False),
        (([], ["a"]), ["a"], False),
        ((["a", "b"], ["a", "b", "c", "b"]), ["c", "b"], False),
        ((["a", "b", "c"], ["c", "d"]), ["d"], False),
        ((["a", "b"], ["c", "d"]), ["c", "d"], True),
        ((["a", "a"], ["a", "a", "b", "a"]), ["b", "a"], False),
        ((["a", "a"], ["a", "a", "a"]), ["a"], False),
        ((["a"], ["x", "a"]), ["x", "a"], True),
        ((["a", "b", "c"], []), [], True),
        ((["a"], ["b"], ["b"]), [], False),
    ],
)
def test_what_is_new_in_a_ring(dumps: tuple[list[str], ...], news: list[str], gap: bool) -> None:
    assert ring(*dumps) == (news, gap)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "haproxy.log"
    path.write_text("old\n")
    return path


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_a_file_is_read_from_its_end_in_whole_lines(log: Path) -> None:
    tail = Tail(log)
    assert tail.read() == b""
    append(log, "one\ntw")
    assert tail.read() == b"one\n"
    append(log, "o\n")
    assert tail.read() == b"two\n"
    tail.close()


def test_a_renamed_file_is_read_to_its_end_then_the_new_one(log: Path) -> None:
    tail = Tail(log)
    tail.read()
    append(log, "last\n")
    log.rename(log.with_suffix(".1"))
    append(log.with_suffix(".1"), "very last\n")
    log.write_text("first\n")
    assert tail.read() == b"last\nvery last\nfirst\n"
    tail.close()


def test_a_truncated_file_is_read_from_its_begin(log: Path) -> None:
    tail = Tail(log)
    tail.read()
    log.write_text("x\n")
    assert tail.read() == b"x\n"
    tail.close()


def test_a_file_far_ahead_is_skipped_over_and_counted(log: Path) -> None:
    tail = Tail(log)
    tail.read()
    append(log, "y" * 79 + "\n" + "x\n" * (MOST_BYTES // 2))
    assert len(tail.read()) == MOST_BYTES
    assert tail.left_out_bytes == 80
    tail.close()


def test_a_missing_file_is_read_whole_once_it_comes(tmp_path: Path) -> None:
    tail = Tail(tmp_path / "later.log")
    with pytest.raises(FileNotFoundError):
        tail.read()
    (tmp_path / "later.log").write_text("first\n")
    assert tail.read() == b"first\n"
    tail.close()


def test_entries_of_the_journal() -> None:
    fields = {"MESSAGE": DOWN, "SYSLOG_PID": "905", "_PID": "1"}
    assert entry(json.dumps(fields).encode()) == (905, DOWN)
    assert entry(json.dumps({"MESSAGE": list(b"a\xff"), "_PID": "7"}).encode()) == (7, "a\ufffd")
    assert entry(json.dumps({"MESSAGE": None}).encode()) is None
    assert entry(b"-- no entries --") is None
    assert entry(b"[]") is None


def logs(wanted: str, limits: Limits | None = None) -> tuple[Logs, list[Event]]:
    put: list[Event] = []
    return Logs(put.append, Troubles(put.append), wanted, limits), put


def test_lines_of_a_file_become_events(log: Path) -> None:
    source, put = logs(str(log))
    source.poll((), Asking(), {})
    append(log, f"Nov 21 10:34:46 h haproxy[905]: {DOWN}\n{TRAFFIC.decode()}")
    source.poll((), Asking(), {})
    source.stop()
    assert [(one.pid, one.text) for one in put if isinstance(one, LogLine)] == [(905, DOWN)]


def test_a_file_that_cannot_be_read_is_said_once_and_when_it_is_over(tmp_path: Path) -> None:
    path = tmp_path / "none.log"
    source, put = logs(str(path))
    for _ in range(2):
        source.poll((), Asking(), {})
    path.write_text("")
    source.poll((), Asking(), {})
    source.stop()
    assert [(one.subject, one.over) for one in put if isinstance(one, Trouble)] == [
        (str(path), False),
        (str(path), True),
    ]


def test_a_flood_is_bounded(log: Path) -> None:
    source, put = logs(str(log), Limits(per_second=5))
    source.poll((), Asking(), {})
    append(log, "".join(f"Server a/s{number} is DOWN.\n" for number in range(500)))
    source.poll((), Asking(), {})
    source.stop()
    assert 50 <= sum(isinstance(one, LogLine) for one in put) < 500
    assert [one.subject for one in put if isinstance(one, Trouble)] == ["rate"]


def test_none_reads_nothing() -> None:
    source, put = logs("none")
    source.poll((), Asking(), {})
    source.stop()
    assert put == []
