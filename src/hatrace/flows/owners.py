"""Whose socket it is, and whether that is HAProxy."""

from __future__ import annotations

from hatrace.flows.scans import Fds, Names
from hatrace.flows.told import Told
from hatrace.model.capture_info import CaptureInfo, ScopeKind
from hatrace.model.flow import Flow

HAPROXY = "haproxy"


class Owners:
    """Pids, their names, and what they are; from every source that speaks of processes."""

    def __init__(self, info: CaptureInfo, told: Told, fds: Fds, names: Names) -> None:
        self._told = told
        self.fds = fds
        self.names = names
        self.only_haproxy = info.scope.kind is ScopeKind.HAPROXY
        """Whether nothing but HAProxy (and its children) is traced."""

    def of(self, flow: Flow) -> tuple[int, str]:
        """The owner's pid (0: unknown) and name.

        A socket that nobody connected or accepted while hatrace looked may still be in an
        fd table; one that has ended had a process which let go of it.  A process that has
        gone may have handed its sockets on, as HAProxy does with listeners at a reload.
        """
        if flow.pid and not (flow.pid in self._told.past and self.fds.of(flow.inode)):
            return flow.pid, flow.comm or self.names.of(flow.pid)
        pids = [holder.pid for holder in self.fds.of(flow.inode)]
        ours = [pid for pid in pids if self._told.spoke(pid)]
        pid = next(iter((*ours, *pids)), flow.closer)
        return pid, self.names.of(pid)

    def is_haproxy(self, pid: int, comm: str) -> bool | None:
        """None: not known."""
        if pid and self._told.spoke(pid):
            return True
        if comm:
            return comm == HAPROXY or comm in self._binaries()
        return None

    def _binaries(self) -> set[str]:
        """Names under which HAProxy runs here (``haproxy-3.0`` ...)."""
        return {process.comm for process in self._told.processes.values()}
