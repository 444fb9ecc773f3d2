"""Sampler: a thread that finds HAProxy, asks it, and turns what it says into events.

It has its own rhythm and never keeps the consumer waiting: events wait in a queue for
`drain`.  What cannot be read is a `Trouble`, said once; what was read before stays.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue

from hatrace.haproxy import parse, settings, sockets
from hatrace.haproxy.asking import Asking
from hatrace.haproxy.check_events import STATE_DIR, CheckFeeds
from hatrace.haproxy.discovery import Finder, reloaded
from hatrace.haproxy.logs import NONE, Logs
from hatrace.haproxy.questions import Questions, Rhythm
from hatrace.haproxy.runtime import Guard, NoAnswer
from hatrace.haproxy.settings import Loaded
from hatrace.haproxy.troubles import Troubles
from hatrace.model.event import Event, Processes
from hatrace.model.topology import Bind, CommandSocket, Kind, Process

ROUND_S = 0.25
YOUNG_NS = 5_000_000_000
"""A process younger than this may not have opened its sockets yet."""
CURRENT = (Kind.WORKER, Kind.STANDALONE)


@dataclass(frozen=True, slots=True)
class _Told:
    """What only a master says of a worker."""

    reloads: int | None
    version: str | None


class Sampler:
    """Samples HAProxy while it runs.

    ``pids_or_names``: HAProxy processes to look at (with their master and workers), or the
    command names to take for HAProxy; empty: all that are called haproxy.  ``guard`` says
    whether a master's socket can spare a slot; without it no master is ever asked.
    ``logs``: ``auto``, ``none`` or the path of a file: its log lines as well (`logs.Logs`).
    ``check_events``: HAProxy's own feed of health checks as well (changes a trace setting of
    the process, and puts it back).
    """

    def __init__(
        self,
        pids_or_names: Iterable[int | str] = (),
        guard: Guard | None = None,
        *,
        check_events: bool = False,
        logs: str = NONE,
        state_dir: Path = STATE_DIR,
        rhythm: Rhythm | None = None,
    ) -> None:
        given = tuple(pids_or_names)
        names = [each for each in given if isinstance(each, str)]
        self._finder = Finder(names, [each for each in given if isinstance(each, int)])
        self._usual = self._rhythm = rhythm or Rhythm()
        self._queue: SimpleQueue[Event] = SimpleQueue()
        self._troubles = Troubles(self._queue.put)
        self._asking = Asking(guard)
        self._questions = Questions(self._asking, self._troubles, self._queue.put, self._rhythm)
        self._feeds = CheckFeeds(self._queue.put, self._troubles, state_dir)
        self._check_events = check_events
        self._logs = Logs(self._queue.put, self._troubles, logs)
        self._processes: tuple[Process, ...] = ()
        self._sockets: tuple[CommandSocket, ...] = ()
        self._loaded: dict[int, Loaded] = {}
        self._wanted: dict[int, Loaded] = {}
        self._told: dict[int, _Told] = {}
        self._ask_master_ns: dict[int, int] = {}
        self._scan_ns = self._said_ns = self._watch_ns = 0
        self._say_now = False
        self._wake, self._asked = threading.Event(), threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="haproxy-sampler", daemon=True)

    def start(self) -> None:
        """Looks for processes once, so that `pids` is right at once; then samples in a thread."""
        self._feeds.clean_up()
        self._scan(time.monotonic_ns())
        self._thread.start()

    def stop(self, patience_s: float = 5.0) -> None:
        """Ends the thread and HAProxy's feed of checks; what is queued can still be drained."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(patience_s)
        self._feeds.stop()
        self._logs.stop()

    def wait(self, patience_s: float) -> None:
        """Until all were asked once, but no longer than that."""
        self._asked.wait(patience_s)

    def drain(self) -> list[Event]:
        """All events since the last call, oldest first; never waits."""
        events: list[Event] = []
        try:
            while True:
                events.append(self._queue.get_nowait())
        except Empty:
            return events

    def pids(self) -> frozenset[int]:
        """HAProxy's processes as of the last look, masters included."""
        return frozenset(process.pid for process in self._processes)

    def command_sockets(self) -> tuple[CommandSocket, ...]:
        """Their command-line sockets as of the last look."""
        return self._sockets

    def wanted_binds(self) -> dict[int, tuple[Bind, ...]]:
        """By current process, the binds that its files name now, if they were changed since it
        had started: those that a reload would make, or has failed to make."""
        return {pid: loaded.configuration.binds for pid, loaded in self._wanted.items()}

    def confirm(self, pid: int) -> None:
        """Asks for what `show sess` and `show fd` of a worker say, as soon as they may be asked."""
        if any(each.pid == pid and each.kind is not Kind.MASTER for each in self._processes):
            self._questions.confirm(pid)
            self._wake.set()

    def pace(self, factor: float) -> None:
        """From now on asks and looks so many times less often than usual; 1: as usual."""
        self._rhythm = self._questions.rhythm = self._usual.slower(factor)

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._round(time.monotonic_ns())
            except Exception as error:
                self._defect(error)
            self._asked.set()
            self._wake.wait(ROUND_S)
            self._wake.clear()

    def _defect(self, error: Exception) -> None:
        """Something nobody thought of: say where, and go on with what works."""
        at = traceback.extract_tb(error.__traceback__)[-1]
        why = f"a defect of hatrace: {error!r} in {Path(at.filename).name}, line {at.lineno}"
        self._troubles.begin("haproxy", "sampler", why, "please report it, with the capture")

    def _round(self, now_ns: int) -> None:
        if now_ns - self._scan_ns >= self._rhythm.scan_s * 1e9:
            self._scan(now_ns)
        for process in self._processes:
            if self._stopping:
                return
            if process.kind in CURRENT:
                loaded = self._loaded.get(process.pid)
                known = loaded.configuration if loaded else None
                self._questions.ask_current(process, known)
            if process.kind is Kind.MASTER:
                self._ask_master(process, now_ns)
            else:
                if process.kind is Kind.OLD_WORKER:
                    self._questions.ask_old(process, self._retired_ns(process))
                self._questions.ask_confirmation(process)
        if self._check_events:
            self._follow_checks()
        self._read_logs()

    def _retired_ns(self, old: Process) -> int | None:
        """When its successor started."""
        later = (
            each.started_ns
            for each in self._processes
            if each.parent_pid == old.parent_pid and each.started_ns > old.started_ns
        )
        return min(later, default=None)

    def _read_logs(self) -> None:
        current = {one.pid for one in self._processes if one.kind in CURRENT}
        targets = {
            pid: loaded.configuration.logs for pid, loaded in self._loaded.items() if pid in current
        }
        self._logs.poll(self._processes, self._asking, targets)

    def _follow_checks(self) -> None:
        current = [each for each in self._processes if each.kind in CURRENT]
        self._feeds.follow(current, self._asking, self._questions.labels)

    def _scan(self, now_ns: int) -> None:
        self._scan_ns = now_ns
        before = {process.pid: process for process in self._processes}
        found = tuple(self._with_told(process) for process in self._finder.scan())
        known = [_identity(each) for each in before.values()]
        changed = not self._said_ns or [_identity(each) for each in found] != known
        self._processes = found
        if changed:
            self._changed(before)
        elif now_ns - self._watch_ns >= self._rhythm.servers_s * 1e9:
            self._watch_ns = now_ns
            self._watch_files()
            self._find_sockets()
        elif any(now_ns - each.started_ns < YOUNG_NS for each in found):
            self._find_sockets()
        late = now_ns - self._said_ns >= self._rhythm.processes_s * 1e9
        if changed or late or self._say_now:
            self._said_ns, self._say_now = now_ns, False
            self._queue.put(Processes(time.monotonic_ns(), found))

    def _with_told(self, process: Process) -> Process:
        told = self._told.get(process.pid)
        process = reloaded(process, told.reloads, told.version) if told else process
        version = process.version or self._questions.version(process.pid)
        return replace(process, version=version) if version else process

    def _changed(self, before: dict[int, Process]) -> None:
        """Processes came, went, or became old."""
        now = {process.pid for process in self._processes}
        for pid in before.keys() - now:
            self._troubles.over_with(f"pid {pid}", "the process has ended")
            self._questions.forget(pid)
            for table in (self._loaded, self._told, self._ask_master_ns):
                table.pop(pid, None)
        self._ask_master_ns = dict.fromkeys(self._ask_master_ns, 0)
        if self._processes:
            self._troubles.over("haproxy", "processes", "HAProxy runs")
        else:
            why = "HAProxy ended while traced" if before else "no HAProxy process runs here"
            do = "start it, or name its processes: --pid or --comm"
            self._troubles.begin("haproxy", "processes", why, do)
        for process in self._processes:
            old = before.get(process.pid)
            if old is not None and old.stopped and not process.stopped:
                self._questions.ask_again(process.pid)
            if process.kind in CURRENT and (old is None or old.started_ns != process.started_ns):
                self._configure(process)
            elif process.kind is Kind.OLD_WORKER:
                self._troubles.over("config", f"pid {process.pid}", "an old worker now")
        self._wanted = dict(self._wanted_now())
        self._find_sockets()

    def _find_sockets(self) -> None:
        found: list[CommandSocket] = []
        for process in self._processes:
            loaded = self._loaded.get(process.pid)
            found += sockets.of_process(process, loaded.configuration if loaded else None)
        self._sockets = tuple(found)
        self._asking.know(self._processes, found)

    def _configure(self, process: Process) -> None:
        subject = f"pid {process.pid}"
        try:
            loaded = settings.load(process)
        except (OSError, ValueError) as error:
            why = f"its configuration cannot be read: {error}"
            do = "run hatrace as root (CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH) on the same host"
            self._troubles.begin("config", subject, why, do)
            return
        self._loaded[process.pid] = loaded
        self._queue.put(settings.event(process, loaded.configuration))

    def _watch_files(self) -> None:
        self._wanted = dict(self._wanted_now())
        for process in self._processes:
            loaded = self._loaded.get(process.pid)
            if process.kind not in CURRENT or loaded is None:
                continue
            if settings.changed_since(process, loaded):
                why = "its configuration files were changed after it had started"
                do = "what they say may not be in force before a reload"
                self._troubles.begin("config", f"pid {process.pid}", why, do)

    def _wanted_now(self) -> Iterator[tuple[int, Loaded]]:
        """What cannot be read, or parsed while it is being written, is left out."""
        for process in self._processes:
            if process.kind in CURRENT:
                latest = self._wanted.get(process.pid) or self._loaded.get(process.pid)
                with suppress(OSError, ValueError):
                    loaded = settings.wanted(process, latest)
                    if loaded is not None:
                        yield process.pid, loaded

    def _ask_master(self, master: Process, now_ns: int) -> None:
        """`show proc`, once after each change of processes: which reload each stems from."""
        due_ns = self._ask_master_ns.setdefault(master.pid, 0)
        if now_ns < due_ns:
            return
        self._ask_master_ns[master.pid] = now_ns + int(self._rhythm.master_s * 1e9)
        subject = f"pid {master.pid}: show proc"
        try:
            answer, _ = self._asking.ask(master, "show proc")
        except NoAnswer as error:
            self._troubles.begin("runtime-api", subject, error.why, error.do, f"{error.problem}")
            return
        self._troubles.over("runtime-api", subject)
        self._ask_master_ns[master.pid] = now_ns + int(3600e9)
        listed = {each.pid: each for each in parse.processes(answer.text)}
        for process in self._processes:
            line = listed.get(process.container_pid or process.pid)
            if line is not None and master.pid in (process.pid, process.parent_pid):
                self._told[process.pid] = _Told(line.reloads, line.version)
        self._scan_ns, self._say_now = 0, True


def _identity(process: Process) -> tuple[int, int, Kind, bool]:
    return process.pid, process.started_ns, process.kind, process.stopped
