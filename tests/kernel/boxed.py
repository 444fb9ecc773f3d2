"""A real HAProxy in surroundings of its own: namespaces, a cgroup, a folder nobody else sees.

Its one process pair is proxy and server at once: frontend `fe` sends to server `app/s1`, which is
frontend `origin` of the same HAProxy.  So all happens in one network namespace, whichever that is.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hatrace.lab.stage import wait_until
from hatrace.sockets.netlink import within

PORTS = FRONT, ORIGIN = 27901, 27902
"""Of `fe` and `origin`, where the network namespace is its own."""
CONFIG = """\
global
    stats socket {folder}/admin.sock mode 600 level admin
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend fe
    bind 127.0.0.1:{ports[0]}
    default_backend app
backend app
    option http-server-close
    server s1 127.0.0.1:{ports[1]} check inter 300ms
frontend origin
    bind 127.0.0.1:{ports[1]}
    http-request return status 200 content-type text/plain string hello
"""
START = 'exec haproxy -W -S "$0/master.sock" -f haproxy.cfg'
HIDDEN = 'mount -t tmpfs none "$0" && cp "$1" "$0/haproxy.cfg" && cd "$0"'
"""Its folder is a file system that is mounted in its own namespace only."""
OPEN = 'cp "$1" "$0/haproxy.cfg" && cd "$0"'


@dataclass(frozen=True)
class Boxed:
    """A running one, by the pids that this process sees."""

    master: int
    worker: int
    front: int = FRONT

    def request(self) -> int:
        """One request through the frontend, from within; the client's port."""

        def ask() -> int:
            with socket.create_connection(("127.0.0.1", self.front), timeout=20) as link:
                link.sendall(b"GET / HTTP/1.0\r\n\r\n")
                answer = b"".join(iter(lambda: link.recv(4096), b""))
                assert answer.endswith(b"hello"), answer
                port: int = link.getsockname()[1]
                return port

        return within(self.worker, ask)


@contextmanager
def boxed(
    folder: Path,
    before: Sequence[str] = (),
    prepare: str = "",
    hidden: bool = False,
    ports: tuple[int, int] = PORTS,
) -> Iterator[Boxed]:
    """HAProxy in master-worker mode behind a command as `unshare`; ``prepare`` is a shell line run
    in its place.  It is ready: both halves answer and s1 is up."""
    inside, config = folder / "box", folder / "haproxy.cfg"
    inside.mkdir()
    config.write_text(CONFIG.format(folder=inside, ports=ports))
    config.chmod(0o600)
    place = HIDDEN if hidden else OPEN
    lines = " && ".join(filter(None, [prepare, place, START]))
    process = subprocess.Popen(
        [*before, "sh", "-ec", lines, str(inside), str(config)],
        env=os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        assert wait_until(lambda: process.poll() is not None or _pair(process.pid) is not None)
        master, worker = _pair(process.pid) or (0, 0)
        assert worker, process.poll()
        box = Boxed(master, worker, ports[0])
        assert wait_until(lambda: _serves(box)), "the boxed HAProxy does not serve"
        yield box
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _serves(box: Boxed) -> bool:
    try:
        return bool(box.request())
    except (OSError, AssertionError):
        return False


def _pair(pid: int) -> tuple[int, int] | None:
    """Master and worker, at or below a process."""
    for master in (pid, *_children(pid)):
        workers = _children(master)
        if workers and _name(master) == _name(workers[0]) == "haproxy":
            return master, workers[0]
    return None


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
