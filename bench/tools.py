"""The tools that are compared, and how each is started, seen to be attached, and ended."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench import bpf, processes
from hatrace.kernel.rungs import LADDER

NOTHING, AGAIN = "nothing", "nothing again"
"""The second tells how much two runs differ that should not."""
EMPTY = "empty programs"
"""At the hooks of hatrace: bench/empty.py."""
RUNGS = tuple(rung.name for rung in LADDER)
POLL = "while :; do ss -tinp; sleep 1; done"
DEBUGFS = "/sys/kernel/debug"
ATTACH_S = 180.0
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
    bpf: bool = True
    """It has BPF programs; else it is there as soon as it runs."""
    terminal: bool = False
    """It draws on a terminal; else its output goes to /dev/null."""


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


def hatrace(*words: str, name: str = "hatrace", terminal: bool = False) -> Tool:
    """The real command of this checkout."""
    return Tool(name, (sys.executable, "-m", "hatrace", *words), terminal=terminal)


def on_rung(rung: str) -> str:
    """The name of the tool."""
    return f"hatrace record, {rung}"


def usual(names: Iterable[str]) -> list[str]:
    """Those that are compared unless others are asked for: the best rung only."""
    return [name for name in names if name not in map(on_rung, RUNGS)]


def record(scope: tuple[str, ...], *options: str) -> Tool:
    return hatrace("record", *scope, "-o", "{out}", *options, name="hatrace record")


def live(scope: tuple[str, ...]) -> Tool:
    """On a terminal, as a user sees it."""
    return hatrace("live", *scope, name="hatrace live", terminal=True)


def known(comm_option: tuple[str, ...]) -> dict[str, Tool]:
    """All tools by name; ``comm_option`` tells hatrace which processes to look at.

    Those after `AGAIN` are there to be asked for.
    """
    tools = (
        Tool(NOTHING, ()),
        record(comm_option),
        hatrace("live", "--json", *comm_option, name="hatrace live"),
        Tool("tcplife", (_of_libbpf("tcplife"),), tracefs=True),
        Tool("tcpstates", (_of_libbpf("tcpstates"),), tracefs=True),
        Tool("tcplife of bcc", ("tcplife-bpfcc",), tracefs=True),
        Tool("tcptracer of bcc", ("tcptracer-bpfcc",), tracefs=True),
        Tool("tcplife.bt", ("tcplife.bt",), tracefs=True),
        Tool("ss each second", ("sh", "-c", POLL), bpf=False),
        Tool(EMPTY, (sys.executable, "-m", "bench.empty")),
        Tool(AGAIN, ()),
        *(
            hatrace("record", *comm_option, "-o", "{out}", "--rung", rung, name=on_rung(rung))
            for rung in RUNGS
        ),
    )
    return {tool.name: tool for tool in tools}


def _of_libbpf(name: str) -> str:
    """libbpf-tools' program: plain in Debian 12, ``tcplife-libbpf`` from 13 on."""
    newer = f"{name}-libbpf"
    return newer if shutil.which(newer, path=_path()) else name


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
            programs = _wait_until_attached(process, said, tool.bpf)
            running = Running(process.pid, programs, output)
            yield running
        finally:
            _end(process)
        running.output_bytes = output.stat().st_size if output.exists() else None


def _start(tool: Tool, output: Path, said: Path) -> subprocess.Popen[bytes]:
    command = [part.replace("{out}", str(output)) for part in tool.command]
    if not shutil.which(command[0], path=_path()):
        raise DidNotStart(f"there is no {command[0]}")
    screen = _terminal() if tool.terminal else None
    with said.open("wb") as stderr:
        process = subprocess.Popen(
            _with_tracefs(command) if tool.tracefs else command,
            env=os.environ | {"PATH": _path(), "TERM": "xterm-256color"},
            stdin=screen or subprocess.DEVNULL,
            stdout=screen or subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )
    if screen:
        os.close(screen)
    return process


def _terminal() -> int:
    """The tool's end of one of 50 lines; what is drawn there is read, and forgotten."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, 160))

    def read() -> None:
        with suppress(OSError):  # EIO: the other end is closed
            while os.read(ours, 1 << 16):
                pass
        os.close(ours)

    threading.Thread(target=read, daemon=True).start()
    return theirs


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _with_tracefs(command: list[str]) -> list[str]:
    """Mounted where it is not, but for this tool alone: nothing is left behind."""
    if Path("/sys/kernel/tracing/events").is_dir():
        return command
    mount = "mount -t tracefs tracefs /sys/kernel/tracing && mount -t debugfs debugfs " + DEBUGFS
    own = ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'{mount}; exec "$@"']
    return [*own, "sh", *command]


def _wait_until_attached(
    process: subprocess.Popen[bytes], said: Path, bpf_expected: bool
) -> frozenset[int]:
    """The ids of its programs, once it has some and no more have come for a while."""
    programs: frozenset[int] = frozenset()
    since = start = time.monotonic()
    while time.monotonic() < start + ATTACH_S:
        if process.poll() is not None:
            break
        now = bpf.program_ids(processes.of_session(process.pid))
        if now != programs:
            programs, since = now, time.monotonic()
        elif (programs or not bpf_expected) and time.monotonic() > since + SETTLE_S:
            return programs
        time.sleep(0.05)
    code = process.poll()
    why = _why(said) or f"no BPF program after {ATTACH_S:.0f} s"
    raise DidNotStart(why if code is None else f"exit code {code}: {why}")


def _why(said: Path) -> str:
    """What it said that tells most: what is not there, else of an error, else the last."""
    lines = said.read_text(errors="replace").strip().splitlines()
    for words in ("no such file", "error"):
        if told := [line for line in lines if words in line.lower()]:
            return told[0].strip()
    return lines[-1].strip() if lines else ""


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
