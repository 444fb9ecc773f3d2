"""What is asked of a worker and how often: the cheap questions always, the dear ones on demand.

Cost measured (HAPROXY.md): `show info`, `show stat` and `show servers` under 1 ms; `show fd`
stops all of HAProxy's threads for each chunk of its answer (16 ms for 3,000 fds); `show sess`
about 2 MB for 3,000 streams with all details.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hatrace.haproxy import lines, parse, servers
from hatrace.haproxy.asking import Asking
from hatrace.haproxy.config import Configuration
from hatrace.haproxy.runtime import Answer, NoAnswer, Problem
from hatrace.haproxy.troubles import Troubles
from hatrace.model.event import Descriptors, Event, Info, Servers, Streams
from hatrace.model.topology import Process, Server

SOURCE = "runtime-api"


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Seconds between questions, at least."""

    scan_s: float = 0.5
    processes_s: float = 2.0
    info_s: float = 5.0
    servers_s: float = 5.0
    master_s: float = 10.0
    """Until a master that did not answer is asked again."""
    later_s: float = 5.0
    """More until a worker that did not answer is asked again."""
    newborn_s: float = 1.0
    """Age of a worker below which it is not asked: it may not listen yet."""
    sess_s: float = 5.0
    old_after_s: float = 10.0
    """Ordinary sessions of an old worker are over by then."""
    old_sess_s: float = 60.0
    """An old worker's `show sess`, which tells sessions from what lies idle in its pools."""
    fd_s: float = 30.0
    most_connections: int = 20_000
    """Above this `show sess` is not asked."""
    most_fds: int = 60_000
    """Above this `show fd` is not asked."""

    def slower(self, factor: float) -> Rhythm:
        """What is asked again and again, so many times less often."""
        return replace(
            self,
            scan_s=factor * self.scan_s,
            processes_s=factor * self.processes_s,
            info_s=factor * self.info_s,
            servers_s=factor * self.servers_s,
        )


@dataclass(slots=True)
class _Asked:
    """When what was last asked of one process; 0: never.  CLOCK_MONOTONIC, ns."""

    info_ns: int = 0
    servers_ns: int = 0
    sess_ns: int = 0
    fd_ns: int = 0
    wants_sess: bool = False
    wants_fd: bool = False
    version: str | None = None
    connections: int | None = None
    labels: frozenset[str] = frozenset()
    configuration: Configuration | None = None
    denied: set[str] = field(default_factory=set)
    """Commands its socket does not allow or it does not know: not asked again."""


class Questions:
    """Asks when it is time, and puts the answers as events."""

    def __init__(
        self,
        asking: Asking,
        troubles: Troubles,
        put: Callable[[Event], None],
        rhythm: Rhythm,
    ) -> None:
        self._asking, self._troubles, self._put, self.rhythm = asking, troubles, put, rhythm
        self._asked: dict[int, _Asked] = {}
        self._wanted: set[int] = set()
        self._lock = threading.Lock()

    def confirm(self, pid: int) -> None:
        """From any thread."""
        with self._lock:
            self._wanted.add(pid)

    def forget(self, pid: int) -> None:
        self._asked.pop(pid, None)
        with self._lock:
            self._wanted.discard(pid)

    def ask_again(self, pid: int) -> None:
        """It runs again: do not wait until it is time."""
        if pid in self._asked:
            self._asked[pid].info_ns = self._asked[pid].servers_ns = 0

    def version(self, pid: int) -> str | None:
        """As its `show info` says."""
        asked = self._asked.get(pid)
        return asked.version if asked else None

    def labels(self, pid: int) -> frozenset[str]:
        """``backend/server`` of the servers it knows."""
        asked = self._asked.get(pid)
        return asked.labels if asked else frozenset()

    def ask_current(self, process: Process, configuration: Configuration | None) -> None:
        """The cheap questions, if it is time."""
        asked = self._asked.setdefault(process.pid, _Asked())
        asked.configuration = configuration
        if time.monotonic_ns() - process.started_ns < self.rhythm.newborn_s * 1e9:
            return
        if _due(asked.info_ns, self.rhythm.info_s):
            asked.info_ns = time.monotonic_ns()
            if not self._ask_info(process, asked):
                asked.info_ns += int(self.rhythm.later_s * 1e9)
                asked.servers_ns = asked.info_ns
                self._tell_configured(process, asked)
        if _due(asked.servers_ns, self.rhythm.servers_s):
            asked.servers_ns = time.monotonic_ns()
            self._ask_servers(process, asked)

    def ask_old(self, process: Process, retired_ns: int | None) -> None:
        """Which servers an old worker has, once, and only if it did not say so when it was the
        current one: today's configuration may lack those that its sessions still go to.  And
        what it is doing for whom, after what is ordinary is over, now and then.
        """
        asked = self._asked.setdefault(process.pid, _Asked())
        if process.stopped or not self._asking.sockets(process.parent_pid):
            return
        if not asked.labels and _due(asked.servers_ns, self.rhythm.master_s):
            asked.servers_ns = time.monotonic_ns()
            answer = self._ask(process, "show servers state")
            if answer is not None and answer.complete:
                self._tell(process, asked, servers.merged(parse.servers_state(answer.text), {}, {}))
        age_ns = time.monotonic_ns() - (retired_ns or process.started_ns)
        if age_ns >= self.rhythm.old_after_s * 1e9 and _due(asked.sess_ns, self.rhythm.old_sess_s):
            asked.wants_sess = True

    def ask_confirmation(self, process: Process) -> None:
        """The dear questions, if they are wanted and may be asked."""
        asked = self._asked.setdefault(process.pid, _Asked())
        with self._lock:
            if process.pid in self._wanted:
                self._wanted.discard(process.pid)
                asked.wants_sess = asked.wants_fd = True
        wants_fd = asked.wants_fd and _due(asked.fd_ns, self.rhythm.fd_s)
        wants_sess = asked.wants_sess and _due(asked.sess_ns, self.rhythm.sess_s)
        if not wants_fd and not wants_sess:
            return
        if not self._ask_info(process, asked):
            asked.wants_fd = asked.wants_sess = False
            return
        back_fds = self._ask_streams(process, asked)
        if wants_fd:
            self._ask_descriptors(process, asked, back_fds)

    def _ask(
        self,
        process: Process,
        command: str,
        deadline_s: float = 3.0,
        partial: bool = False,
        subject: str = "",
    ) -> Answer | None:
        """The answer; None, and a trouble, without one."""
        subject = subject or f"pid {process.pid}: {command}"
        try:
            answer, socket = self._asking.ask(process, command, deadline_s, partial)
        except NoAnswer as error:
            self._asked[process.pid].denied |= _for_good(error, command)
            kind = str(error.problem)
            self._troubles.begin(SOURCE, subject, error.why, error.do, kind)
            return None
        if command == "show info" and not self._is_its_own(process, answer):
            self._asking.not_its_own(socket)
            why = f"another process answers at {socket.path}"
            self._troubles.begin(SOURCE, subject, why)
            return None
        if answer.complete:
            self._troubles.over(SOURCE, subject)
        else:
            why = f"the answer was cut after {len(answer.text)} bytes: it is not complete"
            self._troubles.begin(SOURCE, subject, why, kind="cut")
        return answer

    def _is_its_own(self, process: Process, answer: Answer) -> bool:
        """After a reload a path belongs to the newest worker: who answers says its pid."""
        pid = parse.info(answer.text).get("Pid")
        return pid is None or pid == str(process.container_pid or process.pid)

    def _ask_info(self, process: Process, asked: _Asked) -> bool:
        answer = self._ask(process, "show info", subject=f"pid {process.pid}")
        if answer is None:
            return False
        values = parse.info(answer.text)
        asked.version = values.get("Version") or asked.version
        connections = values.get("CurrConns", "")
        asked.connections = int(connections) if connections.isdecimal() else None
        self._put(Info(time.monotonic_ns(), process.pid, values))
        return True

    def _ask_servers(self, process: Process, asked: _Asked) -> None:
        state = self._ask(process, "show servers state")
        stat = self._ask(process, "show stat")
        if state is None:
            self._tell_configured(process, asked)
            return
        merged = servers.merged(
            parse.servers_state(state.text),
            parse.stat(stat.text) if stat else {},
            asked.configuration.servers if asked.configuration else {},
        )
        self._tell(process, asked, merged)

    def _tell(self, process: Process, asked: _Asked, found: tuple[Server, ...]) -> None:
        asked.labels = frozenset(server.label for server in found)
        self._put(Servers(time.monotonic_ns(), process.pid, found))

    def _tell_configured(self, process: Process, asked: _Asked) -> None:
        """Where HAProxy does not say which servers it has, its configuration does."""
        lines = asked.configuration.servers if asked.configuration else {}
        if lines and not asked.labels:
            self._tell(process, asked, servers.configured_only(lines))

    def _ask_streams(self, process: Process, asked: _Asked) -> frozenset[int] | None:
        """The back fds of its streams; None: not known."""
        asked.wants_sess = False
        if "show sess" in asked.denied:
            return None
        subject = f"pid {process.pid}: show sess"
        if (asked.connections or 0) > self.rhythm.most_connections:
            why = f"more than {self.rhythm.most_connections} connections: it would cost too much"
            self._troubles.begin(SOURCE, subject, why, kind="too many")
            return None
        asked.sess_ns = time.monotonic_ns()
        answer = self._ask(process, "show sess", deadline_s=10.0, partial=True)
        if answer is None:
            return None
        streams = lines.streams(answer.text)
        self._put(Streams(time.monotonic_ns(), process.pid, streams, answer.complete))
        fds = frozenset(each.back_fd for each in streams if each.back_fd is not None)
        return fds if answer.complete else None

    def _ask_descriptors(
        self, process: Process, asked: _Asked, back_fds: frozenset[int] | None
    ) -> None:
        asked.wants_fd = False
        if "show fd" in asked.denied:
            return
        if (process.fd_used or 0) > self.rhythm.most_fds:
            why = f"more than {self.rhythm.most_fds} fds: it would stop HAProxy for too long"
            subject = f"pid {process.pid}: show fd"
            self._troubles.begin(SOURCE, subject, why, kind="too many")
            return
        asked.fd_ns = time.monotonic_ns()
        answer = self._ask(process, "show fd", deadline_s=10.0, partial=True)
        if answer is not None:
            found = lines.descriptors(answer.text, back_fds, asked.labels)
            event = Descriptors(time.monotonic_ns(), process.pid, found, answer.complete)
            self._put(event)


def _due(last_ns: int, every_s: float) -> bool:
    return not last_ns or time.monotonic_ns() - last_ns >= every_s * 1e9


def _for_good(error: NoAnswer, command: str) -> set[str]:
    refused = error.problem in (Problem.DENIED, Problem.UNKNOWN)
    return {command} if refused else set()
