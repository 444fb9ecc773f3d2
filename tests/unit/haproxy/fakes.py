"""Starting and ending processes that look like HAProxy (fake_haproxy.py)."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

FAKE = Path(__file__).parent / "fake_haproxy.py"
CONFIG = """\
global
    stats socket {socket} mode 600 level admin
    hard-stop-after 10m
defaults
    timeout client 30s
backend be_tcp
    mode tcp
    server s0 127.0.0.1:22010 check inter 500ms
"""


def eventually(what: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Waits for it, long: only a failure takes the whole time."""
    end = time.monotonic() + seconds
    while not what() and time.monotonic() < end:
        time.sleep(0.02)
    return what()


def write_config(folder: Path, socket: bool = True) -> Path:
    file = folder / "haproxy.cfg"
    text = CONFIG.format(socket=folder / "stats.sock")
    file.write_text(text if socket else text.replace("stats socket", "stats timeout"))
    file.with_suffix(".say").write_text("")
    return file


@contextmanager
def running(
    folder: Path, *arguments: str, version: str = "2.6", name: str = "haproxy"
) -> Iterator[subprocess.Popen[str]]:
    """A fake HAProxy with ``-f haproxy.cfg`` and what is given; ended, with its child, at last."""
    binary = folder / name
    if not binary.exists():
        binary.symlink_to(Path(sys.executable).resolve())
    if not (folder / "haproxy.cfg").exists():
        write_config(folder)
    process = subprocess.Popen(
        [binary, FAKE, *arguments, "-f", "haproxy.cfg"],
        cwd=folder,
        env={"HATRACE_FAKE_VERSION": version},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        if "stats socket" in (folder / "haproxy.cfg").read_text():
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.terminate()
        process.wait(20)
        if process.stdout is not None:
            process.stdout.close()
