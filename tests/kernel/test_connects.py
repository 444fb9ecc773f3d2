"""connect() that does not go where it was asked to: elsewhere, or nowhere."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import pytest

from hatrace.kernel import bpf, preflight
from hatrace.kernel.probes import Probes
from hatrace.kernel.wire import Criteria
from hatrace.model.flow import Flag, flows
from tests.kernel.own import ME, attached

pytestmark = pytest.mark.kernel

CONNECT4 = 10
"""BPF_CGROUP_INET4_CONNECT, include/uapi/linux/bpf.h."""
USER_PORT = 24
"""Its place in struct bpf_sock_addr, there."""
LOAD, STORE, SET, UNLESS, EXIT = 0x61, 0x63, 0xB7, 0x55, 0x95


@pytest.fixture
def probes(opened: ExitStack) -> Probes:
    return opened.enter_context(closing(attached(ME)))


def instruction(code: int, to: int = 0, of: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("<BBhi", code, of << 4 | to, offset, value)


@contextmanager
def redirected(asked: int, port: int) -> Iterator[None]:
    """As services of Kubernetes without kube-proxy: a program sends connect() elsewhere."""
    code = b"".join(
        (
            instruction(LOAD, 2, 1, USER_PORT),
            instruction(UNLESS, 2, 0, 2, socket.htons(asked)),
            instruction(SET, 3, value=socket.htons(port)),
            instruction(STORE, 1, 3, USER_PORT),
            instruction(SET, 0, value=1),
            instruction(EXIT),
        )
    )
    cgroup = os.open(preflight.cgroup_mount() or "/sys/fs/cgroup", os.O_RDONLY)
    program = bpf.load_program(bpf.PROG_CGROUP_SOCK_ADDR, code, "elsewhere", CONNECT4)
    link = bpf.link_cgroup(program, cgroup, CONNECT4)
    try:
        yield
    finally:
        for fd in (link, program, cgroup):
            os.close(fd)


def test_a_connection_that_is_sent_elsewhere_stays_one(
    probes: Probes, listener: socket.socket, opened: ExitStack
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        asked = nobody.getsockname()[1]
    with redirected(asked, listener.getsockname()[1]):
        client = opened.enter_context(socket.create_connection(("127.0.0.1", asked)))
    for _ in range(2):
        records, _ = probes.scan(Criteria(everything=True))
        mine = [f for f in flows(records) if f.lport == client.getsockname()[1]]
        assert len(mine) == 1 and not mine[0].preexisting
        probes.inventory()
    assert probes.losses().overwritten == 0
    assert not [flow for flow in probes.drain() if flow.rport]


def test_what_no_route_leads_to_is_a_failure(opened: ExitStack) -> None:
    """Refused before a SYN, and before any change of its state; the cgroup rung sees it."""
    code = "import socket, sys; sys.stdin.readline(); "
    code += "print(socket.socket().connect_ex(('192.0.2.1', 80)), flush=True); sys.stdin.readline()"
    command = ["unshare", "--net", sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin and child.stdout
        probes = opened.enter_context(closing(attached(child.pid)))
        print(file=child.stdin, flush=True)
        assert int(child.stdout.readline()) == errno.ENETUNREACH
        ended = [flow for flow in probes.drain() if flow.rport == 80]
        print(file=child.stdin, flush=True)
        if probes.rung == "cgroup":
            [failed] = ended
            assert failed.flags & Flag.FAILED
            probes.scan(Criteria())
            assert [row.failed for row in probes.targets() if row.port == 80] == [1]
        else:
            assert not ended, "tcp_connect() was never reached"
