"""Filters, and the sockets of this very process as what they choose from."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from hatrace.actions.choose import STATES, Chosen, Filter, Side, by_filter, by_findings, side
from hatrace.errors import UsageError
from hatrace.model.address import packed
from hatrace.model.finding import Confidence, Evidence, Finding, Severity
from hatrace.model.flow import State
from tests import factories as f

ME = os.getpid()


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("192.0.2.1:443", "192.0.2.1", 443),
        ("192.0.2.1", "192.0.2.1", None),
        (":443", None, 443),
        ("[2001:db8::1]:443", "2001:db8::1", 443),
        ("2001:db8::1", "2001:db8::1", None),
        ("[::1]", "::1", None),
    ],
)
def test_sides(text: str, address: str | None, port: int | None) -> None:
    assert side(text) == Side(packed(address) if address else None, port)


@pytest.mark.parametrize("text", ["", ":", "junk", "192.0.2.1:", "192.0.2.1:70000", "a:b:c", "x:1"])
def test_what_is_no_side(text: str) -> None:
    with pytest.raises(UsageError, match="no address and port"):
        side(text)


def test_a_filter_asks_for_all_of_it() -> None:
    flow = f.half_closed(f.flow(raddr="192.0.2.1", rport=443, lport=5000))
    now = f.at(100)
    assert Filter(frozenset({State.CLOSE_WAIT}), side("192.0.2.1:443")).matches(flow, now)
    assert not Filter(frozenset({State.ESTABLISHED})).matches(flow, now)
    assert not Filter(remote=side(":444")).matches(flow, now)
    assert Filter(local=side(":5000")).matches(flow, now)
    assert not Filter(local=side("192.0.2.99")).matches(flow, now)


def test_older_means_that_nothing_moved() -> None:
    flow = f.flow()
    assert Filter(quiet_ns=60 * 10**9).matches(flow, f.at(61))
    assert not Filter(quiet_ns=60 * 10**9).matches(flow, f.at(59))
    unknown = f.flow(moved_ns=0)
    assert not Filter(quiet_ns=1).matches(unknown, f.at(1000)), "unknown is not old"


def test_a_listener_never_matches() -> None:
    assert not Filter().matches(f.listener_flow(), f.at(1))
    assert State.LISTEN not in STATES.values()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket, int]]:
    """A connection from this process to itself: both ends and the listener's port."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = listener.getsockname()[1]
        client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        accepted = stack.enter_context(listener.accept()[0])
        yield client, accepted, port


Pair = tuple[socket.socket, socket.socket, int]


def test_by_filter_finds_it_with_its_fd_and_not_the_listener(pair: Pair) -> None:
    client, accepted, port = pair
    chosen = by_filter(Filter(remote=side(f"127.0.0.1:{port}")), [ME])
    assert [fd for _, fd in chosen.flows] == [client.fileno()]
    chosen = by_filter(Filter(local=side(f":{port}")), [ME])
    assert [fd for _, fd in chosen.flows] == [accepted.fileno()]
    assert chosen.rows[0].state == "ESTABLISHED" and chosen.event.matched == 1


def finding(*evidence: Evidence, count: int = 1) -> Finding:
    return Finding(
        "stream-leak",
        "x",
        Severity.WARNING,
        Confidence.LIKELY,
        "it leaks",
        f.START,
        f.START,
        count,
        evidence=evidence,
    )


def evidence_of(end: socket.socket, **fields: object) -> Evidence:
    host, port = end.getpeername()
    known: dict[str, object] = {
        "what": "tcp",
        "pid": ME,
        "comm": "test",
        "inode": os.fstat(end.fileno()).st_ino,
        "remote": f"{host}:{port}",
    }
    return Evidence(**(known | fields))  # type: ignore[arg-type]


def chosen_by(*evidence: Evidence, count: int = 1, scope: tuple[int, ...] = (ME,)) -> Chosen:
    return by_findings([finding(*evidence, count=count)], Filter(), scope)


def test_evidence_names_a_socket_by_inode_and_peer(pair: Pair) -> None:
    client, accepted, _ = pair
    chosen = chosen_by(evidence_of(client), evidence_of(accepted), count=2)
    assert {fd for _, fd in chosen.flows} == {client.fileno(), accepted.fileno()}
    assert chosen.remarks == [] and chosen.missed == 0


def test_an_inode_that_is_another_socket_by_now_is_not_taken(pair: Pair) -> None:
    chosen = chosen_by(evidence_of(pair[0], remote="192.0.2.1:443"))
    assert chosen.flows == [] and "gone already" in chosen.remarks[0]


def test_a_process_out_of_scope_is_not_touched(pair: Pair) -> None:
    chosen = chosen_by(evidence_of(pair[0]), scope=())
    assert chosen.flows == [] and chosen.missed == 1
    assert f"only touched with --pid {ME}" in chosen.remarks[0]
    ended = chosen_by(evidence_of(pair[0], pid=2**22 + 1))
    assert ended.missed == 0 and "has ended" in ended.remarks[0]


def test_what_has_no_connection_and_what_is_not_named_is_said(pair: Pair) -> None:
    chosen = chosen_by(evidence_of(pair[0]), Evidence("unix", pid=ME), count=48)
    assert "unix" in chosen.remarks[0] and "no connection to destroy" in chosen.remarks[0]
    assert "counts 48 and names 1" in chosen.remarks[1]


def test_alive_and_ghosts_are_told_apart() -> None:
    chosen = Chosen(f.at(1), [(f.flow(), 5), (f.ghost(f.flow()), 6)])
    assert [fd for _, fd in chosen.alive] == [5] and [fd for _, fd in chosen.ghosts] == [6]
