"""HAProxy's own live feed of health checks: ``trace check`` read with ``show events -w``.

HAProxy 2.4 and later, level operator.  The trace is a setting of the whole process and costs
it 1 to 5 % CPU (HAPROXY.md), so it is used only when asked for, and switched off again at the
end; what a killed hatrace left on, the next one switches off (`trace_state`).  A trace that
somebody else has on is not touched.  The feed holds one connection to a worker's own socket,
never to a master's.

That connection is interactive (``prompt``), so that the trace can be switched off over it even
when a reload has given the worker's socket to the next one.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from hatrace.haproxy import lines, parse, procfs
from hatrace.haproxy.asking import Asking
from hatrace.haproxy.runtime import Client, NoAnswer
from hatrace.haproxy.trace_state import STATE_DIR, Traced, TraceState
from hatrace.haproxy.troubles import Troubles
from hatrace.model.event import CheckResult, Event
from hatrace.model.topology import CommandSocket, Process

__all__ = ["STATE_DIR", "CheckFeeds"]

START = (
    "prompt\ntrace check sink buf0; trace check level state; trace check verbosity minimal;"
    " trace check start now; show events buf0 -w -n\n"
)
STOP = "trace check stop now"
TOLD = ("init new health-check", "health-check complete", "report ")
"""The actions passed on: begin, end, and what went wrong; some ten others are steps between."""
SOURCE = "check-events"
AGAIN_S = 30.0
LONGEST_LINE_BYTES = 65536


class CheckFeeds:
    """One feed for each current worker."""

    def __init__(
        self, put: Callable[[Event], None], troubles: Troubles, folder: Path = STATE_DIR
    ) -> None:
        self._put, self._troubles = put, troubles
        self._state = TraceState(folder)
        self._feeds: dict[tuple[int, int], _Feed] = {}
        self._tried: dict[int, float] = {}

    def clean_up(self) -> None:
        """Switches off what runs that were killed have left on."""
        for path, traced in self._state.left_behind():
            if all(_switched_off(each) for each in traced if each.lives):
                with suppress(OSError):
                    path.unlink()
            else:
                why = f"a trace of health checks, left on by a hatrace that ended early: {path}"
                self._troubles.begin(SOURCE, str(path), why, f"send HAProxy: {STOP}")

    def follow(
        self,
        processes: Iterable[Process],
        asking: Asking,
        labels: Callable[[int], frozenset[str]],
    ) -> None:
        """Starts a feed for each process that has none, ends those of others."""
        wanted = {(each.pid, each.started_ns): each for each in processes}
        for key, feed in list(self._feeds.items()):
            if key not in wanted or not feed.alive:
                del self._feeds[key]
                feed.stop()
                self._keep()
        for key, process in wanted.items():
            late = time.monotonic() >= self._tried.get(process.pid, 0)
            ready = late and not process.stopped and labels(process.pid)
            if key not in self._feeds and ready:
                self._tried[process.pid] = time.monotonic() + AGAIN_S
                self._begin(key, process, asking, labels)

    def _begin(
        self,
        key: tuple[int, int],
        process: Process,
        asking: Asking,
        labels: Callable[[int], frozenset[str]],
    ) -> None:
        subject = f"pid {process.pid}"
        own = asking.sockets(process.pid)
        stat = procfs.stat(process.pid)
        if not own or stat is None:
            why = "the feed of health checks needs a stats socket of the worker itself"
            self._troubles.begin(SOURCE, subject, why, "stats socket PATH level operator")
            return
        client = asking.client(own[0])
        try:
            reason = _why_not(client)
        except NoAnswer as error:
            reason = error.why
        if reason is not None:
            self._troubles.begin(SOURCE, subject, reason)
            return
        seen_as = process.container_pid or process.pid
        traced = Traced(process.pid, stat.started_ticks, seen_as, own[0].path, process.root)
        feed = _Feed(client, traced, lambda: labels(process.pid), self._put, self._troubles)
        self._feeds[key] = feed
        try:
            self._keep()
        except OSError as error:
            del self._feeds[key]
            why = f"it could not be switched off after a kill, its note cannot be kept: {error}"
            self._troubles.begin(SOURCE, subject, why)
            return
        feed.start()

    def _keep(self) -> None:
        self._state.keep([feed.traced for feed in self._feeds.values()])

    def stop(self) -> None:
        """Switches all of them off."""
        for feed in self._feeds.values():
            feed.stop()
        self._feeds.clear()
        with suppress(OSError):
            self._keep()


def _why_not(client: Client) -> str | None:
    state = parse.trace_state(client.ask("trace").text, "check")
    if state is None:
        return "this HAProxy has no trace of health checks (2.4 and later have)"
    return None if state == "." else "somebody else traces health checks already"


def _switched_off(traced: Traced) -> bool:
    """Over a connection of its own, if that reaches the same process still."""
    client = Client(CommandSocket(traced.path, False, traced.pid), traced.root)
    try:
        if parse.info(client.ask("show info").text).get("Pid") != str(traced.seen_as):
            return False
        client.ask(STOP)
        return parse.trace_state(client.ask("trace").text, "check") == "."
    except NoAnswer:
        return False


class _Feed:
    """A connection that stays open, and the thread that reads it."""

    def __init__(
        self,
        client: Client,
        traced: Traced,
        labels: Callable[[], frozenset[str]],
        put: Callable[[Event], None],
        troubles: Troubles,
    ) -> None:
        self.traced = traced
        self._client, self._labels, self._put = client, labels, put
        self._troubles = troubles
        self._subject = f"pid {traced.pid}"
        self._stopping = threading.Event()
        self._ended = False
        """Switched off over its own connection."""
        self._thread = threading.Thread(target=self._run, name="check-feed", daemon=True)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(3.0)
        if not self._ended and self.traced.lives:
            _switched_off(self.traced)

    def _run(self) -> None:
        try:
            end_ns = time.monotonic_ns() + 3_000_000_000
            with self._client.connect("the feed of health checks", end_ns) as link:
                link.settimeout(3.0)
                link.sendall(START.encode())
                self._read(link)
                self._ended = _ended(link)
        except (NoAnswer, OSError) as error:
            self._troubles.begin(SOURCE, self._subject, f"the feed broke: {error}")

    def _read(self, link: socket.socket) -> None:
        link.setblocking(False)
        poll = select.poll()
        poll.register(link, select.POLLIN)
        rest = b""
        while not self._stopping.is_set():
            if not poll.poll(200):
                continue
            data = link.recv(65536)
            if not data:
                raise ConnectionResetError("HAProxy closed it")
            whole, _, rest = (rest + data).rpartition(b"\n")
            self._tell(whole.decode(errors="replace"))
            rest = rest[-LONGEST_LINE_BYTES:]

    def _tell(self, text: str) -> None:
        now_ns = time.monotonic_ns()
        by_name = _by_name(self._labels())
        for line in lines.check_lines(text):
            if line.action.startswith(TOLD):
                label = by_name.get(line.server) or line.server
                self._put(CheckResult(now_ns, self.traced.pid, label, line.agent, line.text))
        if "Permission denied" in text:
            self._troubles.begin(SOURCE, self._subject, "the level of its socket does not allow it")
        elif dropped := lines.dropped_events(text):
            why = f"HAProxy dropped {dropped} events: the feed has gaps"
            self._troubles.begin(SOURCE, f"{self._subject}: gaps", why, kind="gaps")
        elif by_name:
            self._troubles.over(SOURCE, self._subject)


def _ended(link: socket.socket) -> bool:
    """Leaves `show events` and switches the trace off; whether HAProxy says that it is off.

    Any input ends `show events`; in 2.6 the first line is not noticed, the second one is.
    """
    for _ in range(5):
        if _said(link, b"\n").endswith("> "):
            break
    _said(link, f"{STOP}\n".encode())
    return parse.trace_state(_said(link, b"trace\n"), "check") == "."


def _said(link: socket.socket, line: bytes, patience_ms: int = 300) -> str:
    """What comes back until the next prompt, or silence; raises OSError."""
    link.sendall(line)
    poll = select.poll()
    poll.register(link, select.POLLIN)
    said = b""
    while not said.endswith(b"\n> ") and poll.poll(patience_ms):
        data = link.recv(65536)
        if not data:
            break
        said += data
    return said.decode(errors="replace")


def _by_name(labels: Iterable[str]) -> dict[str, str]:
    """Labels by the server's bare name, where that names one server only."""
    found: dict[str, str] = {}
    for label in labels:
        name = label.partition("/")[2]
        found[name] = "" if name in found else label
    return found
