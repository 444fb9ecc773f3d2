"""Matching: kernel socket × file descriptor × HAProxy stream.

A flow is found by its inode among the fds of its process, and that fd among the streams of
`show sess`.  What comes out is what HAProxy itself has to say about a socket: nothing (no
stream knows it), that its time is up, or that it still waits for something.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from hatrace.model.event import Stream
from hatrace.model.flow import Flow, State
from hatrace.model.world import World

ASKING_NS = 2_000_000_000
"""`show sess` of a busy process takes a while: what went wrong during it may be missing."""


class Word(Enum):
    """What `show sess` says of a flow."""

    UNASKED = "show sess was not read since"
    NO_STREAM = "no stream of show sess holds it"
    PAST = "its stream's timeout is past"
    ALIVE = "its stream still waits for its timeout"
    ENDLESS = "its stream shows no timeout"


@dataclass(frozen=True, slots=True)
class Match:
    """A flow's fds and what HAProxy says of them."""

    word: Word
    fds: tuple[int, ...]
    stream: Stream | None = None


class Matcher:
    """Matches the flows of one world; made anew for each look."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._streams: dict[int, dict[int, Stream]] = {}

    def fds(self, flow: Flow) -> tuple[int, ...]:
        """The fds by which the flow's own process holds it."""
        held = self._world.holders(flow.inode) if flow.inode else ()
        return tuple(sorted(one.fd for one in held if one.pid == flow.pid))

    def match(self, flow: Flow) -> Match:
        fds = self.fds(flow)
        asked = self._world.streams.get(flow.pid)
        if asked is None or not fds or asked.at_ns < flow.born_ns:
            return Match(Word.UNASKED, fds)
        by_fd = self._by_fd(flow.pid)
        stream = next((by_fd[fd] for fd in fds if fd in by_fd), None)
        if stream is None:
            known = asked.complete and asked.at_ns - ASKING_NS > wrong_ns(flow)
            return Match(Word.NO_STREAM if known else Word.UNASKED, fds)
        return Match(self._timing(asked.at_ns, stream), fds, stream)

    def _timing(self, asked_ns: int, stream: Stream) -> Word:
        if stream.expires_ms is None:
            return Word.ENDLESS
        if stream.expires_ms < 0:
            return Word.PAST
        # It is given in whole seconds, and renewed only when it fires: 0 is not past yet, and
        # after its time nothing is known until asked again.
        waits = asked_ns + stream.expires_ms * 1_000_000 > self._world.now_ns
        return Word.ALIVE if waits else Word.UNASKED

    def _by_fd(self, pid: int) -> dict[int, Stream]:
        if pid not in self._streams:
            table: dict[int, Stream] = {}
            for stream in self._world.streams[pid].streams:
                for fd in (stream.front_fd, stream.back_fd):
                    if fd is not None:
                        table[fd] = stream
            self._streams[pid] = table
        return self._streams[pid]


def wrong_ns(flow: Flow) -> int:
    """When its connection began to end; its birth where that is not known."""
    return max(flow.closed_ns, flow.fin_ns) or flow.born_ns


def longest_wrong_first(flow: Flow) -> tuple[bool, int, int, int]:
    """A key to sort by.  What had begun to end before hatrace came is before all seen to."""
    seen = not flow.preexisting or max(flow.closed_ns, flow.fin_ns) > 0
    return seen, wrong_ns(flow), flow.inode, flow.id


def quiet_ns(flow: Flow, now_ns: int) -> int:
    """How long nothing has happened on it.

    Of a flow older than hatrace only its last data is known, if that; without it nothing is
    known but that it was there at the inventory.
    """
    happened = max(flow.moved_ns, flow.closed_ns, flow.fin_ns)
    if not flow.preexisting:
        happened = max(happened, flow.established_ns, flow.connect_ns)
    return now_ns - (happened or flow.born_ns)


def pending(flow: Flow) -> bool:
    """Whether data waits in it: unread by its owner, or not yet taken by its peer.

    A FIN counts as one byte that is not read (or sent) in the kernel's sequence numbers.
    What a reset socket had not sent is thrown away (tcp_reset(), net/ipv4/tcp_input.c),
    though its sequence numbers stay.
    """
    unread = flow.unread_bytes > (1 if flow.fin_ns or flow.preexisting else 0)
    return unread or (flow.state != State.CLOSE and flow.unsent_bytes > 1)
