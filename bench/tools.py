"""The tools that are compared, and how each is started, seen to be attached, and ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import bpf, processes

NOTHING = "nothing"
ATTACH_S = 30.0
"""Longer than any of them takes, even where BPF is compiled under emulation."""
SETTLE_S = 0.5
"""All programs are there when no new one has come for so long."""


@dataclass(frozen=True)
class Tool:
    """A command; ``{comm}`` in it is the name of the work's process, ``{out}`` a new file."""

    name: str
    command: tuple[str, ...]
    tracefs: bool = False
    """It attaches through /sys/kernel/tracing."""


@dataclass
class Running:
    """A tool at work."""

    session: int
    programs: frozenset[int]
    output: Path
    """The file it writes, if it writes one; gone when it has ended."""
    output_bytes: int | None = None
    """Size of the file it wrote; known when it has ended."""


class DidNotStart(Exception):
    """The tool ended, or attached nothing; the text is the last it said."""


def known(comm_option: tuple[str, ...]) -> dict[str, Tool]:
    """All tools by name; ``comm_option`` tells hatrace which processes to look at."""
    hatrace = (str(Path(sys.executable).with_name("hatrace")),)
    tools = (
        Tool(NOTHING, ()),
        Tool("hatrace record", (*hatrace, "record", *comm_option, "-o", "{out}")),
        Tool("hatrace live", (*hatrace, "live", "--json", *comm_option)),
        Tool("tcplife", ("tcplife",), tracefs=True),
        Tool("tcpstates", ("tcpstates",), tracefs=True),
    )
    return {tool.name: tool for tool in tools}


@contextmanager
def attached(tool: Tool) -> Iterator[Running | None]:
    """The tool, running and attached; ``None`` for `NOTHING`.  Ended at the end."""
    if not tool.command:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="hatrace-bench-") as folder:
        output, said = Path(folder, "out.hatrace"), Path(folder, "stderr")
        process = _start(tool, output, said)
        try:
            running = Running(process.pid, _wait_until_attached(process, said), output)
            yield running
        finally:
            _end(process)
        running.output_bytes = output.stat().st_size if output.exists() else None


def _start(tool: Tool, output: Path, said: Path) -> subprocess.Popen[bytes]:
    command = [part.replace("{out}", str(output)) for part in tool.command]
    if not shutil.which(command[0], path=_path()):
        raise DidNotStart(f"there is no {command[0]}")
    with said.open("wb") as stderr:
        return subprocess.Popen(
            _with_tracefs(command) if tool.tracefs else command,
            env=os.environ | {"PATH": _path()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _with_tracefs(command: list[str]) -> list[str]:
    """Mounted where it is not, but for this tool alone: nothing is left behind."""
    if Path("/sys/kernel/tracing/events").is_dir():
        return command
    mount = 'mount -t tracefs tracefs /sys/kernel/tracing && exec "$@"'
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount, "sh", *command]


def _wait_until_attached(process: subprocess.Popen[bytes], said: Path) -> frozenset[int]:
    """The ids of its programs, once it has some and no more have come for a while."""
    programs: frozenset[int] = frozenset()
    since = start = time.monotonic()
    while time.monotonic() < start + ATTACH_S:
        if process.poll() is not None:
            break
        now = bpf.program_ids(processes.of_session(process.pid))
        if now != programs:
            programs, since = now, time.monotonic()
        elif programs and time.monotonic() > since + SETTLE_S:
            return programs
        time.sleep(0.05)
    lines = said.read_text(errors="replace").strip().splitlines()
    why = lines[-1] if lines else f"no BPF program after {ATTACH_S:.0f} s"
    code = process.poll()
    raise DidNotStart(why if code is None else f"exit code {code}: {why}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Asked first; whatever is left of its session is then killed."""
    for number, patience_s in ((signal.SIGINT, 15), (signal.SIGTERM, 5)):
        if process.poll() is None:
            process.send_signal(number)
            try:
                process.wait(patience_s)
            except subprocess.TimeoutExpired:
                continue
    for pid in processes.of_session(process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait()
