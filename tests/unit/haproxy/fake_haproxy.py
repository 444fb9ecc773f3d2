"""Runs as a process called ``haproxy`` (a link to Python's binary of that name), with a command
line like HAProxy's, so that discovery meets real processes without a real HAProxy.

``haproxy fake_haproxy.py [-W] [-S path] -f FILE``: a master keeps one child; a worker (or, without
-W, the process itself) answers at the first `stats socket` of FILE with the recorded answers of
the version in HATRACE_FAKE_VERSION, its own pid in them.  What a file ``FILE.say`` names line
by line as ``command=cut`` or ``command=denied`` is answered so.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from pathlib import Path

DATA = Path(__file__).parent / "data"
ANSWERS = {
    "show info": "info.txt",
    "show stat": "stat.csv",
    "show servers state": "servers_state.txt",
    "show sess": "sess.txt",
    "show fd": "fd.txt",
}


def answer(command: str, say: Path) -> str:
    folder = DATA / os.environ["HATRACE_FAKE_VERSION"]
    rules = dict(line.split("=") for line in say.read_text().split("\n") if "=" in line)
    if rules.get(command) == "denied":
        return "Permission denied\n\n"
    text = (folder / ANSWERS.get(command, "unknown.txt")).read_text()
    text = re.sub(r"^Pid: \d+", f"Pid: {os.getpid()}", text, flags=re.MULTILINE)
    return text[: len(text) // 2] if rules.get(command) == "cut" else text


def serve(file: Path) -> None:
    match = re.search(r"stats socket (\S+)", file.read_text())
    if match is None:
        signal.pause()
        return
    path = match[1]
    listener = socket.socket(socket.AF_UNIX)
    temporary = f"{path}.{os.getpid()}.tmp"
    listener.bind(temporary)
    os.rename(temporary, path)  # noqa: PTH104
    listener.listen(10)
    print("ready", flush=True)
    while True:
        peer, _ = listener.accept()
        with peer:
            command = peer.recv(4096).decode().rstrip("\n")
            peer.sendall(answer(command, file.with_suffix(".say")).encode())


def main() -> None:
    file = Path(sys.argv[sys.argv.index("-f") + 1])
    if "-W" in sys.argv:
        child = os.fork()
        if child:
            signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
            os.waitpid(child, 0)
            return
    serve(file)


if __name__ == "__main__":
    main()
