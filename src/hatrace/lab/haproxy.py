"""A real HAProxy on a stage: start it, wait until it serves, ask it, reload it."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hatrace.errors import EnvironmentLacks
from hatrace.haproxy.runtime import Client, NoAnswer
from hatrace.lab import builds
from hatrace.lab.stage import Stage, wait_until
from hatrace.model.topology import CommandSocket


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

    def reload(self) -> int:
        """Have the master read the configuration again; the new worker's pid."""
        before = self.worker()
        os.kill(self.pid, signal.SIGUSR2)
        if not wait_until(lambda: self.worker() not in (0, before)):
            raise EnvironmentLacks("the lab's HAProxy did not reload", f"worker {before} stays")
        return self.worker()


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
    file.write_text(f"global\n    stats socket unix@{stats} mode 600 level admin\n{config}")
    mode = ["-db"] if standalone else ["-W", "-S", str(master)]
    child = stage.spawn([binary, *mode, "-f", file], f"{name}.log", environment)
    instance = HAProxy(child.pid, binary, file, stats, None if standalone else master)
    wait_until(lambda: bool(instance.worker()) or child.poll() is not None)
    if child.poll() is not None or not instance.worker():
        raise EnvironmentLacks(
            f"{binary} does not start with the lab's configuration", stage.tail(f"{name}.log")
        )
    return instance


def master_path(stage: Stage, name: str = "haproxy") -> Path:
    """Where the master's command-line socket will be."""
    return stage.directory / f"{name}-master.sock"


def _pid_in(info: str) -> int:
    """``Pid`` of a `show info`; 0 without one."""
    lines = (line for line in info.splitlines() if line.startswith("Pid:"))
    return int(next(lines, "Pid: 0").split()[1])
