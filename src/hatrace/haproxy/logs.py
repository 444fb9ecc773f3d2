"""HAProxy's own words as events: from its rings, the journal or a file, whichever is there.

Each source is asked for news at each `poll`, none of them waits; what it yields are the lines
that tell of servers, checks, limits and workers (`log_lines`), not its traffic.  Lines that were
there before hatrace are left out: when they were written is not known well enough.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hatrace.haproxy import journal, log_ring
from hatrace.haproxy.asking import Asking
from hatrace.haproxy.journal import Journal
from hatrace.haproxy.log_file import Tail
from hatrace.haproxy.log_lines import LONGEST, Said, events, here
from hatrace.haproxy.log_ring import Ring
from hatrace.haproxy.runtime import NoAnswer
from hatrace.haproxy.troubles import Troubles
from hatrace.model.event import Event, LogLine
from hatrace.model.topology import Process

AUTO, NONE = "auto", "none"
SOURCE = "logs"
FILES = (Path("/var/log/haproxy.log"), Path("/var/log/haproxy/haproxy.log"))
"""Where Debian's and other packages have syslogd write them."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What reading logs may cost."""

    ring_s: float = 2.0
    """Between two looks at one ring, at least."""
    ring_share: float = 0.02
    """Of the time may go into looks at one ring: a large one is looked at less often."""
    per_second: int = 200
    """Lines passed on, on average over ten seconds; HAProxy's events are far fewer."""
    same_s: float = 5.0
    """The same words of the same process from two sources within this time are one line."""


@dataclass(slots=True)
class _Watched:
    ring: Ring
    due_s: float = 0.0


class Logs:
    """``wanted``: ``auto``, ``none`` or the path of a file; ``put`` gets each `LogLine`."""

    def __init__(
        self,
        put: Callable[[Event], None],
        troubles: Troubles,
        wanted: str = AUTO,
        limits: Limits | None = None,
        journal_options: Sequence[str] = (),
    ) -> None:
        self._put, self._troubles = put, troubles
        self._wanted = wanted
        self._limits = limits or Limits()
        self._journal_options = journal_options
        self._journal: Journal | None = None
        self._journal_again_s = 0.0
        self._tails: dict[Path, Tail] = {}
        self._rings: dict[tuple[int, int, str], _Watched] = {}
        self._recent: OrderedDict[tuple[int, str], tuple[str, float]] = OrderedDict()
        """Source and time of what was said lately."""
        self._budget = float(self._limits.per_second * 10)
        self._budget_s = time.monotonic()
        self._begun = False

    def poll(
        self,
        processes: Sequence[Process],
        asking: Asking,
        logs: Mapping[int, Sequence[str]],
    ) -> None:
        """Passes on what came since the last call.

        ``processes``: all of HAProxy's; ``logs``: where the current workers log to, as
        `Configuration.logs` has it, by pid: their rings are read.
        """
        if self._wanted == NONE:
            return
        if not self._begun:
            self._begin()
        seen_as = {one.container_pid: one.pid for one in processes if one.container_pid}
        self._pass_on("file", self._from_files(), seen_as)
        self._pass_on("journal", self._from_journal(), seen_as)
        if self._wanted == AUTO:
            self._follow_rings(processes, logs)
            for process in processes:
                self._pass_on("ring", self._from_rings(process, asking), seen_as, process.pid)

    def stop(self) -> None:
        """Ends the child and closes the files."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        for tail in self._tails.values():
            tail.close()
        self._tails.clear()

    def _begin(self) -> None:
        """The journal has what syslogd's file has, so one of them is enough."""
        self._begun = True
        if self._wanted != AUTO:
            self._tails[Path(self._wanted)] = Tail(Path(self._wanted))
        elif journal.available() or self._journal_options:
            self._start_journal()
        if self._wanted == AUTO and self._journal is None:
            self._tails = {path: Tail(path) for path in FILES if path.is_file()}

    def _start_journal(self) -> None:
        try:
            self._journal = Journal(self._journal_options)
        except OSError as error:
            self._troubles.begin(SOURCE, "journal", f"journalctl does not start: {error.strerror}")

    def _from_files(self) -> Iterator[Said]:
        for path, tail in self._tails.items():
            try:
                block = tail.read()
            except OSError as error:
                do = "run hatrace as root, or name another file: --logs PATH"
                self._troubles.begin(SOURCE, str(path), error.strerror or str(error), do)
                continue
            if tail.left_out_bytes:
                why = "it grows faster than it is read: lines are left out"
                self._troubles.begin(SOURCE, str(path), why, kind="behind")
            else:
                self._troubles.over(SOURCE, str(path))
            yield from events(block)

    def _from_journal(self) -> Iterator[Said]:
        if self._journal is None:
            return
        for pid, message in self._journal.read():
            for line in message.splitlines():
                found = next(events(line.encode(errors="replace")), None)
                if found is not None:
                    yield Said(found.pid if found.pid is not None else pid, found.text)
        if not self._journal.alive:
            self._journal.close()
            self._journal = None
            self._troubles.begin(SOURCE, "journal", "journalctl ended")

    def _follow_rings(
        self, processes: Iterable[Process], logs: Mapping[int, Sequence[str]]
    ) -> None:
        wanted = {
            (one.pid, one.started_ns, name)
            for one in processes
            for name in log_ring.names(logs.get(one.pid, ()))
        }
        for key in self._rings.keys() - wanted:
            del self._rings[key]
        for key in wanted - self._rings.keys():
            self._rings[key] = _Watched(Ring())

    def _from_rings(self, process: Process, asking: Asking) -> Iterator[Said]:
        sockets = asking.sockets(process.pid)
        for (pid, _, name), watched in self._rings.items():
            if pid != process.pid or time.monotonic() < watched.due_s or process.stopped:
                continue
            subject = f"pid {pid}: ring {name}"
            if not sockets:
                why = "reading a ring needs a stats socket of the worker itself"
                self._troubles.begin(SOURCE, subject, why, "stats socket PATH level operator")
                continue
            began_s = time.monotonic()
            try:
                answer = asking.client(sockets[0]).ask(f"show events {name}")
            except NoAnswer as error:
                self._troubles.begin(SOURCE, subject, error.why, error.do, str(error.problem))
                watched.due_s = time.monotonic() + 10 * self._limits.ring_s
                continue
            took_s = time.monotonic() - began_s
            pause_s = max(self._limits.ring_s, took_s / self._limits.ring_share)
            watched.due_s = time.monotonic() + pause_s
            yield from events(watched.ring.new(answer.text.encode()))
            self._say_gap(subject, watched.ring.gap)

    def _say_gap(self, subject: str, gap: bool) -> None:
        if gap:
            why = "it was overwritten between two looks: lines are missing"
            self._troubles.begin(SOURCE, subject, why, "a larger `size` in its section", "gap")
        else:
            self._troubles.over(SOURCE, subject)

    def _pass_on(
        self, source: str, lines: Iterable[Said], seen_as: Mapping[int, int], owner: int = 0
    ) -> None:
        for said in lines:
            pid = here(said.pid, seen_as, owner)
            text = said.text[:LONGEST]
            if self._is_known(source, pid, text):
                continue
            if not self._affordable():
                why = f"more than {self._limits.per_second} lines a second: some are left out"
                self._troubles.begin(SOURCE, "rate", why)
                continue
            self._put(LogLine(time.monotonic_ns(), pid, text))

    def _is_known(self, source: str, pid: int, text: str) -> bool:
        """Whether another source has just said the same."""
        now_s = time.monotonic()
        while self._recent and next(iter(self._recent.values()))[1] < now_s - self._limits.same_s:
            self._recent.popitem(last=False)
        first, _ = self._recent.setdefault((pid, text), (source, now_s))
        return first != source

    def _affordable(self) -> bool:
        now_s = time.monotonic()
        most = float(self._limits.per_second * 10)
        self._budget += (now_s - self._budget_s) * self._limits.per_second
        self._budget, self._budget_s = min(self._budget, most), now_s
        if self._budget < 1:
            return False
        self._budget -= 1
        return True
