"""Every socket of the scripted workload is recorded exactly once: right pid, end and bytes.

The same run is watched by hatrace, by `strace` (who called what) and by `ss --events` (what the
kernel says of a destroyed socket), so that the script's own word is not the only measure.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hatrace.lab.stage import wait_until
from hatrace.model.address import packed, printable
from tests.kernel.workload import CASES, Expected

Ends = tuple[str, str]
"""Local and remote ``address:port``; IPv4 and v4-mapped alike."""

WORKLOAD = Path(__file__).with_name("workload.py")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(WORKLOAD.parents[2] / "src")}


@dataclass(frozen=True)
class Run:
    """What the workload says it did, and what the three watchers saw."""

    expected: list[Expected]
    flows: list[dict[str, Any]]
    strace: str
    ss: str
    json: str


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("workload")
    capture, trace = folder / "w.hatrace", folder / "strace"
    with ExitStack() as stack:

        def start(*words: str | Path, log: str) -> subprocess.Popen[str]:
            output = stack.enter_context((folder / log).open("w"))
            process = stack.enter_context(
                subprocess.Popen(
                    words,
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    text=True,
                    env=ENVIRONMENT,
                )
            )
            stack.callback(process.kill)
            return process

        def printed(log: str, pattern: str) -> bool:
            return wait_until(lambda: re.search(pattern, (folder / log).read_text()) is not None)

        workload = start(sys.executable, WORKLOAD, log="workload")
        assert printed("workload", r"^\d+\n")
        hatrace = start(
            sys.executable, "-m", "hatrace", "record", "--pid", str(workload.pid), "-o", capture,
            log="record",
        )  # fmt: skip
        assert printed("record", "watching"), (folder / "record").read_text()
        strace = start(
            "strace", "-f", "-yy", "-e", "trace=connect,accept4,close,listen", "-o", trace,
            "-p", str(workload.pid), log="strace.log",
        )  # fmt: skip
        assert printed("strace.log", "attached")
        ss = start("stdbuf", "-oL", "ss", "-EtnieOH", log="ss")
        assert wait_until(lambda: "socket:" in links(ss.pid))

        tell(workload, "go")
        assert printed("workload", r"\]\n")
        tell(workload, "bye")
        assert workload.wait(20) == 0, (folder / "workload").read_text()
        assert strace.wait(20) == 0
        hatrace.send_signal(signal.SIGINT)
        hatrace.wait(20)
        ss.terminate()
    exported = subprocess.run(
        [sys.executable, "-m", "hatrace", "export", capture],
        capture_output=True, text=True, check=True, env=ENVIRONMENT,
    )  # fmt: skip
    said = (folder / "workload").read_text().splitlines()[1]
    return Run(
        [Expected(**fields) for fields in json.loads(said)],
        [json.loads(line) for line in exported.stdout.splitlines()],
        trace.read_text(),
        (folder / "ss").read_text(),
        (folder / "record").read_text(),
    )


def links(pid: int) -> str:
    """What a process's fds point to; those that it closes meanwhile, to nothing."""
    found = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(fd.readlink()))
    return " ".join(found)


def tell(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{word}\n")
    process.stdin.flush()


def plain(end: str) -> str:
    """``[::ffff:127.0.0.1]:80`` and ``127.0.0.1:80`` as one."""
    address, _, port = end.rpartition(":")
    return f"{printable(packed(address.strip('[]')))}:{port}"


def ends(expected: Expected) -> Ends:
    return plain(f"{expected.local}:{expected.lport}"), plain(f"{expected.remote}:{expected.rport}")


def flow_ends(flow: dict[str, Any]) -> Ends:
    return plain(flow["laddr"]), plain(flow["raddr"])


def kind(flow: dict[str, Any]) -> str:
    found = {"connected", "accepted", "listener"} & set(flow["flags"])
    return found.pop() if len(found) == 1 else f"{sorted(found)}"


def matching(run: Run, expected: Expected) -> list[dict[str, Any]]:
    """The flows that are this socket; a listener by its own end."""
    wanted = "accepted" if expected.kind == "unaccepted" else expected.kind
    flows = (flow for flow in run.flows if kind(flow) == wanted)
    if expected.kind == "listener":
        local = plain(f"{expected.local}:{expected.lport}")
        return [flow for flow in flows if flow_ends(flow)[0] == local]
    return [flow for flow in flows if flow_ends(flow) == ends(expected)]


def differences(run: Run, what: str, said: str) -> list[str]:
    """One line for each socket whose flow says something else."""
    return [
        f"{expected.case} {expected.kind}: {what} {flow[said]}, not {getattr(expected, what)}"
        for expected in run.expected
        for flow in matching(run, expected)
        if flow[said] != (getattr(expected, what) or 0)
    ]


def test_every_case_was_played(run: Run) -> None:
    assert {expected.case for expected in run.expected} == {case.__name__ for case in CASES}


def test_each_socket_is_there_exactly_once(run: Run) -> None:
    counts = {(e.case, e.kind, e.lport): len(matching(run, e)) for e in run.expected}
    assert {key: count for key, count in counts.items() if count != 1} == {}


def test_and_nothing_else_is(run: Run) -> None:
    known = {id(flow) for expected in run.expected for flow in matching(run, expected)}
    assert [flow for flow in run.flows if id(flow) not in known] == []


def test_all_are_over(run: Run) -> None:
    assert [flow for flow in run.flows if flow["seen"] != "ended"] == []
    assert "0 events lost" in run.json


def test_the_process_that_opened(run: Run) -> None:
    assert differences(run, "opener", "pid") == []


def test_the_process_that_let_go_last(run: Run) -> None:
    assert differences(run, "closer", "closer") == []


def test_bytes_sent(run: Run) -> None:
    assert differences(run, "sent_bytes", "sent_bytes") == []


def test_bytes_received(run: Run) -> None:
    assert differences(run, "received_bytes", "received_bytes") == []


END_FLAGS = {
    "fin": {"fin_sent", "fin_received"},
    "rst-sent": {"rst_sent"},
    "rst-received": {"rst_received"},
    "refused": {"failed"},
    "unanswered": {"failed"},
    "-": set(),
}


def test_how_each_ended(run: Run) -> None:
    """An orphan in FIN_WAIT2 becomes a timewait socket: if the peer's FIN comes later than that
    (tcp_rcv_state_process(): under load it may), this socket never sees it."""
    concerned = {"fin_sent", "fin_received", "rst_sent", "rst_received", "failed"}
    wrong = []
    for expected in run.expected:
        for flow in matching(run, expected):
            said = set(flow["flags"]) & concerned
            late = {"fin_received"} if expected.end == "fin" and expected.first else set()
            if not END_FLAGS[expected.end] - late <= said or (
                expected.end != "fin" and {"fin_sent", "fin_received"} <= said
            ):
                wrong.append((expected.case, expected.kind, expected.end, sorted(said)))
    assert wrong == []


def test_who_ended_first(run: Run) -> None:
    """The side that ended first let go before the other one did, or aborted."""
    wrong = []
    for case in {expected.case for expected in run.expected}:
        sides = [e for e in run.expected if e.case == case and e.first is not None]
        released = [
            (flow["released_ns"], expected.first)
            for expected in sides
            for flow in matching(run, expected)
        ]
        if [first for _, first in sorted(released)] != [
            first for pair in range(len(released) // 2) for first in (True, False)
        ]:
            wrong.append((case, sorted(released)))
    assert wrong == []


def test_refusal_and_reset_have_their_errno(run: Run) -> None:
    by_end = {"refused": 111, "rst-received": 104}
    wrong = [
        (expected.case, expected.end, flow["error"])
        for expected in run.expected
        if expected.end in by_end
        for flow in matching(run, expected)
        if flow["error"] != by_end[expected.end]
    ]
    assert wrong == []


def strace_calls(run: Run) -> Iterator[tuple[int, str, str, str]]:
    """(pid, call, arguments, result) of every finished call; interrupted ones joined."""
    begun: dict[int, str] = {}
    for line in run.strace.splitlines():
        pid, text = int(line.split(None, 1)[0]), line.split(None, 1)[1]
        if text.endswith("<unfinished ...>"):
            begun[pid] = text.removesuffix("<unfinished ...>").rstrip()
            continue
        if joined := re.match(r"<\.\.\. \w+ resumed>", text):
            text = begun.pop(pid) + text[joined.end() :]
        if call := re.match(r"(\w+)\((.*)\)\s+= (.*)", text):
            yield pid, call[1], call[2], call[3]


def test_strace_agrees_who_connected_where(run: Run) -> None:
    by_strace: Counter[tuple[int, int]] = Counter()
    for pid, call, arguments, _ in strace_calls(run):
        port = re.search(r"sin6?_port=htons\((\d+)\)", arguments)
        if call == "connect" and port and "->" not in arguments:  # it has no peer yet
            by_strace[pid, int(port[1])] += 1
    by_hatrace = Counter(
        (flow["pid"], int(flow["raddr"].rpartition(":")[2]))
        for flow in run.flows
        if kind(flow) == "connected"
    )
    assert by_hatrace == by_strace


def test_strace_agrees_who_accepted(run: Run) -> None:
    by_strace = Counter(
        pid for pid, call, _, result in strace_calls(run) if call == "accept4" and "TCP" in result
    )
    by_hatrace = Counter(f["pid"] for f in run.flows if kind(f) == "accepted" and f["pid"])
    assert by_hatrace == by_strace


OTHERWISE_CLOSED = {
    ("exit_with_open_socket", "connected"),
    ("killed", "connected"),
    ("closed_at_exec", "connected"),
    ("fork_child_closes_last", "accepted"),
    ("passed_to_another_process", "accepted"),
    ("closed_by_thread", "connected"),
}
"""Not by close(); a child closed its copy early and the last close has no address to show; strace
names the thread."""


def test_strace_agrees_who_closed_last(run: Run) -> None:
    """Where the end was a close() of a socket that still had its addresses."""
    last: dict[Ends, int] = {}
    for pid, call, arguments, _ in strace_calls(run):
        tcp = re.search(r"<TCP(?:v6)?:\[(\S+:\d+)->(\S+:\d+)\]>", arguments)
        if call == "close" and tcp:
            last[plain(tcp[1]), plain(tcp[2])] = pid
    cases = {ends(e): (e.case, e.kind) for e in run.expected if e.kind != "listener"}
    said = {flow_ends(flow): flow["closer"] for flow in run.flows}
    compared = {key: pid for key, pid in last.items() if cases.get(key) not in OTHERWISE_CLOSED}
    assert len(compared) >= 25
    assert {key: said.get(key) for key in compared} == compared


def test_ss_agrees_on_bytes(run: Run) -> None:
    """`bytes_received` of the kernel counts a FIN as one."""
    compared = 0
    flows = {flow_ends(flow): flow for flow in run.flows if kind(flow) != "listener"}
    for line in run.ss.rpartition("\n")[0].splitlines():
        local, remote = line.split()[3:5]
        whole = all(re.fullmatch(r"\S*[\d\]]:\d+", end) for end in (local, remote))
        flow = flows.get((plain(local), plain(remote))) if whole else None
        if flow is None:
            continue
        numbers = dict(re.findall(r"(bytes_\w+):(\d+)", line))
        fin = "fin_received" in flow["flags"]
        assert flow["sent_bytes"] == int(numbers.get("bytes_sent", 0)), line
        assert flow["received_bytes"] == int(numbers.get("bytes_received", fin)) - fin, line
        compared += 1
    assert compared >= 25
