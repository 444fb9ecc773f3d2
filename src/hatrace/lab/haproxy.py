"""A real HAProxy on a stage: start it, wait until it serves, ask it, reload it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hatrace.errors import EnvironmentLacks
from hatrace.haproxy.runtime import Client, NoAnswer
from hatrace.lab import builds
from hatrace.lab.stage import Stage, stop, wait_until
from hatrace.model.topology import CommandSocket

RELOAD_S = 40.0
"""Waiting for a stopped old worker to hand over its listeners takes most of it."""

CONNECTED = "03"
"""State in /proc/net/unix."""


@dataclass(frozen=True, slots=True)
class HAProxy:
    """A running instance.  ``pid``: its master, or the process itself when standalone."""

    pid: int
    binary: Path
    config: Path
    stats: Path
    """Its worker's command-line socket, at level admin."""
    master: Path | None
    """The master's command-line socket; None: standalone."""

    def ask(self, command: str) -> str:
        """What the worker answers; empty while it cannot."""
        try:
            return Client(CommandSocket(str(self.stats), False, self.pid)).ask(command).text
        except NoAnswer:
            return ""

    def worker(self) -> int:
        """The pid of the worker which answers now; 0: none does."""
        return _pid_in(self.ask("show info"))

    def stop_worker(self) -> int:
        """SIGSTOP for its worker, in the middle of nothing; its pid.

        What asked for the pid has left, and the worker must see that before it is stopped.
        """
        worker = self.worker()
        if not wait_until(lambda: not _connected(self.stats)):
            raise EnvironmentLacks("the lab's HAProxy keeps a client that left", str(self.stats))
        stop(worker)
        return worker

    def reload(self) -> int:
        """Have the master read the configuration again; the new worker's pid."""
        before = self.worker()
        self._signal_reload()
        if not wait_until(lambda: self.worker() not in (0, before), RELOAD_S):
            raise EnvironmentLacks("the lab's HAProxy did not reload", f"worker {before} stays")
        return self.worker()

    def _signal_reload(self) -> None:
        """A master that has only just started loses the signal; one that got it executes itself
        anew, with the old workers' pids among its arguments."""
        arguments = Path(f"/proc/{self.pid}/cmdline")
        before = arguments.read_bytes()
        for _ in range(5):
            os.kill(self.pid, signal.SIGUSR2)
            if wait_until(lambda: arguments.read_bytes() != before, 2.0):
                return


def start(
    stage: Stage,
    config: str,
    binary: Path | None = None,
    environment: Mapping[str, str] | None = None,
    standalone: bool = False,
    name: str = "haproxy",
) -> HAProxy:
    """Start HAProxy and wait until it answers; raises EnvironmentLacks if it does not.

    ``config`` may start with lines of ``global``; the command-line socket is added there.
    """
    binary = binary or builds.system()
    stats, master = stage.directory / f"{name}-stats.sock", master_path(stage, name)
    file = stage.directory / f"{name}.cfg"
    mode = ["-db"] if standalone else ["-W", "-S", str(master)]
    _write(file, stats, config)
    child = stage.spawn([binary, *mode, "-f", file], f"{name}.log", environment)
    instance = HAProxy(child.pid, binary, file, stats, None if standalone else master)
    return _serving(stage, instance, child, f"{name}.log")


def configure(instance: HAProxy, config: str) -> None:
    """Write another configuration; nothing reads it before a reload or a restart."""
    _write(instance.config, instance.stats, config)


def restart(stage: Stage, before: HAProxy) -> HAProxy:
    """Start a standalone one anew, as a script does that has forgotten ``-sf``."""
    child = stage.spawn([before.binary, "-db", "-f", before.config], "restarted.log")
    return _serving(stage, replace(before, pid=child.pid), child, "restarted.log")


def _write(file: Path, stats: Path, config: str) -> None:
    file.write_text(f"global\n    stats socket unix@{stats} mode 600 level admin\n{config}")


def _serving(stage: Stage, instance: HAProxy, child: subprocess.Popen[bytes], log: str) -> HAProxy:
    """The instance once it answers itself, and not the one before it."""

    def answers() -> bool:
        worker = instance.worker()
        return bool(worker) and (instance.master is not None or worker == child.pid)

    if wait_until(lambda: answers() or child.poll() is not None) and child.poll() is None:
        return instance
    raise EnvironmentLacks(
        f"{instance.binary} does not start with the lab's configuration", stage.tail(log)
    )


def master_path(stage: Stage, name: str = "haproxy") -> Path:
    """Where the master's command-line socket will be."""
    return stage.directory / f"{name}-master.sock"


def _connected(path: Path) -> bool:
    """Whether a server has a connection at a UNIX socket; the kernel's name may end otherwise."""
    rows = (row.split() for row in Path("/proc/net/unix").read_text().splitlines())
    return any(len(row) > 7 and row[5] == CONNECTED and str(path) in row[7] for row in rows)


def _pid_in(info: str) -> int:
    """``Pid`` of a `show info`; 0 without one."""
    lines = (line for line in info.splitlines() if line.startswith("Pid:"))
    return int(next(lines, "Pid: 0").split()[1])
