"""Peers: backend servers and clients of a lab, all in one child process.

    start(stage, [Serve("echo", 27001), Call("half-close", 27002, per_second=2)])

The child is ``python -m hatrace.lab.peers FILE`` with the specs as JSON; it creates ``FILE.ready``
once every server listens.  Whatever a peer is told to do, the number of sockets it has open at
once is bounded by ``most``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import Coroutine, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hatrace.errors import EnvironmentLacks
from hatrace.lab import changing, servers, spop
from hatrace.lab.clients import CALLING
from hatrace.lab.stage import Stage, wait_until

SERVING = servers.SERVING | changing.SERVING | {"spop": spop.spop}
ACCEPTING = servers.ACCEPTING | changing.ACCEPTING
BACKLOG = 128
RETRY_S = 0.2


@dataclass(frozen=True, slots=True)
class Serve:
    """A server: one of `SERVING` or `ACCEPTING` on a port."""

    behaviour: str
    port: int
    seconds: float = 0.0
    address: str = "127.0.0.1"
    most: int = 1000
    backlog: int = BACKLOG


@dataclass(frozen=True, slots=True)
class Call:
    """A client: one of `clients.CALLING`, started ``per_second`` times until ``count``."""

    behaviour: str
    where: int | str
    """A port, or the path of a UNIX socket."""
    per_second: float = 1.0
    count: int | None = None
    """None: until it is ended."""
    send: str = "ping\n"
    seconds: float = 0.0
    address: str = "127.0.0.1"
    most: int = 200


def start(stage: Stage, peers: Sequence[Serve | Call], name: str = "peers") -> int:
    """Start peers and wait until the servers among them listen; the process's pid."""
    file = stage.directory / f"{name}.json"
    file.write_text(json.dumps([[type(peer).__name__, asdict(peer)] for peer in peers]))
    child = stage.spawn([sys.executable, "-m", "hatrace.lab.peers", file], f"{name}.log")
    _await_ready(stage, child, file.with_suffix(".ready"), name)
    return child.pid


def _await_ready(stage: Stage, child: subprocess.Popen[bytes], ready: Path, name: str) -> None:
    if not wait_until(lambda: ready.exists() or child.poll() is not None) or child.poll():
        raise EnvironmentLacks(f"the lab's {name} do not start", stage.tail(f"{name}.log"))


async def _serve(spec: Serve) -> None:
    """Listen, and behave for ever."""
    listener = socket.create_server((spec.address, spec.port), backlog=spec.backlog)
    listener.setblocking(False)
    if spec.behaviour in ACCEPTING:
        _background(ACCEPTING[spec.behaviour](listener, spec.most))
        return
    behave, slots = SERVING[spec.behaviour], asyncio.Semaphore(spec.most)

    async def connection(reader: StreamReader, writer: StreamWriter) -> None:
        async with slots:
            with contextlib.suppress(OSError):
                await behave(reader, writer, spec.seconds)
            writer.close()

    await asyncio.start_server(connection, sock=listener, backlog=spec.backlog)


async def _call(spec: Call) -> None:
    """Make connections at the rate asked for, each in its own task."""
    slots = asyncio.Semaphore(spec.most)
    made = 0
    while spec.count is None or made < spec.count:
        await slots.acquire()
        _background(_connection(spec, slots))
        made += 1
        await asyncio.sleep(1 / spec.per_second)


async def _connection(spec: Call, slots: asyncio.Semaphore) -> None:
    """One client's life; a refused one is over, as in life."""
    try:
        if isinstance(spec.where, str):
            reader, writer = await asyncio.open_unix_connection(spec.where)
        else:
            reader, writer = await asyncio.open_connection(spec.address, spec.where)
        try:
            await CALLING[spec.behaviour](reader, writer, spec.send.encode(), spec.seconds)
        finally:
            writer.close()
    except OSError:
        await asyncio.sleep(RETRY_S)
    finally:
        slots.release()


_tasks: set[asyncio.Task[None]] = set()


def _background(work: Coroutine[Any, Any, None]) -> None:
    """Run it beside the others; asyncio itself keeps no reference to a task."""
    task = asyncio.create_task(work)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


async def _play(file: Path) -> None:
    kinds = {"Serve": Serve, "Call": Call}
    specs = [kinds[kind](**fields) for kind, fields in json.loads(file.read_text())]
    for spec in specs:
        if isinstance(spec, Serve):
            await _serve(spec)
    file.with_suffix(".ready").touch()
    for spec in specs:
        if isinstance(spec, Call):
            _background(_call(spec))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_play(Path(sys.argv[1])))
