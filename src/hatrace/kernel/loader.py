"""Compile, load and attach, in a process of its own that ends at once.

``python -m hatrace.kernel.loader FD ORDER`` compiles a rung's C files with bcc (LLVM: 130 MB) and
has the kernel verify the programs; once the order has come from the socket FD, it links them by
bpf(2) and hands every map, link and program fd over by SCM_RIGHTS.  The consumer never holds
LLVM, and whatever ends it, closes the links: nothing stays attached.

bcc serves as the compiler alone (kernel/compiler.py), so neither its version nor libbpf's
decides what can be attached.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from dataclasses import asdict
from typing import Any

from hatrace.errors import EnvironmentLacks
from hatrace.kernel import bpf, maps, preflight, walk
from hatrace.kernel.btf import Btf
from hatrace.kernel.compiler import Programs, compile_files
from hatrace.kernel.headers import clean_up, ensure_tree
from hatrace.kernel.kprobes import open_kprobe
from hatrace.kernel.maps import Sizes
from hatrace.kernel.order import Order
from hatrace.kernel.rungs import Hook, Rung, Via
from hatrace.resources import bpf_dir


class _Loading:
    """In the child: one rung on its way into the kernel.  At first nothing is attached."""

    def __init__(self, rung: Rung, sizes: Sizes) -> None:
        self._rung, self._sizes = rung, sizes
        self._btf = Btf()
        self._programs: dict[str, int] = {}
        self._links: list[int] = []
        self._iterators: dict[str, int] = {}
        self._missing: list[str] = []
        self._compiled = self._compile()
        self._maps = maps.create(sizes)
        self._verified = self._load_all()

    def _code(self, hook: Hook) -> bytes:
        """A hook's instructions with the map fds in place."""
        return maps.place(self._compiled[hook.source][hook.function], self._maps)

    def _compile(self) -> dict[str, Programs]:
        sources = dict.fromkeys(bpf_dir() / hook.source for hook in self._rung.hooks)
        return compile_files(list(sources), ensure_tree(), self._defines())

    def _defines(self) -> tuple[str, ...]:
        accept_arguments = self._btf.arguments("inet_csk_accept") or 2
        defines = (f"TARGETS={self._sizes.targets}", f"ACCEPT_ARGUMENTS={accept_arguments}")
        if preflight.knows_ancestor_cgroup(self._btf):
            return (*defines, "ANCESTOR_CGROUP=1")
        return defines

    def attach(self) -> tuple[dict[str, Any], list[int]]:
        """Attach everything; returns the answer and the fds it speaks of."""
        for hook in self._rung.hooks:
            try:
                self._attach(hook, self._verified[hook])
            except OSError as error:
                if not hook.optional:
                    raise EnvironmentLacks(
                        f"the `{self._rung.name}` rung cannot be loaded",
                        f"{hook.via} {hook.target}: {error.strerror or error}",
                        "`hatrace doctor` tells which rungs work here",
                    ) from None
                self._missing.append(hook.without)
        answer = {
            "rung": self._rung.name,
            "sizes": asdict(self._sizes),
            "iterators": list(self._iterators),
            "links": len(self._links),
            "programs": list(self._programs),
            "missing": self._missing,
        }
        fds = [*self._maps.values(), *self._iterators.values(), *self._links]
        return answer, [*fds, *self._programs.values()]

    def _load_all(self) -> dict[Hook, int | OSError]:
        """Every program's fd, or why not; two at a time, as the verifier takes 40 ms for one."""
        programs: dict[Hook, int | OSError] = {}
        hooks = iter(self._rung.hooks)

        def load() -> None:
            for hook in hooks:
                try:
                    programs[hook] = self._load(hook)
                except OSError as error:
                    programs[hook] = error

        beside = threading.Thread(target=load)
        beside.start()
        load()
        beside.join()
        return programs

    def _attach(self, hook: Hook, program: int | OSError) -> None:
        if isinstance(program, OSError):
            raise program
        self._programs[hook.target] = program
        if hook.via is Via.RUN:
            return
        if hook.via is Via.ITERATOR:
            self._iterators[hook.function] = bpf.link_iterator(program, hook.attach_type)
        elif hook.via is Via.CGROUP:
            directory = os.open(preflight.cgroup_mount() or "/sys/fs/cgroup", os.O_RDONLY)
            self._links.append(bpf.link_cgroup(program, directory, hook.attach_type))
            os.close(directory)
        elif hook.via is Via.KPROBE:
            self._links.append(open_kprobe(program, hook.target))
        else:
            self._links.append(bpf.open_tracing(program))

    def _load(self, hook: Hook) -> int:
        if hook.via is Via.RUN:
            return walk.load(self._code(hook), hook.function)
        return bpf.load_program(
            hook.program_type,
            self._code(hook),
            hook.function,
            0 if hook.via is Via.KPROBE else hook.attach_type,
            self._btf.target(hook.via, hook.target) if hook.via.typed else 0,
        )


def _prepared(order: Order) -> _Loading | EnvironmentLacks | None:
    """All but attached; or why it cannot be; None: no BPF rung works here."""
    try:
        rung = preflight.choose(order.rung)
        if rung is None:
            return None
        return _Loading(rung, order.sizes or maps.fitting(maps.sockets_here()))
    except EnvironmentLacks as error:
        return error


def _attached(ready: _Loading | EnvironmentLacks | None) -> tuple[dict[str, Any], list[int]]:
    """The rung's fds, and the answer that tells which they are.  Else there are none, and it says
    why: an error, or the rung that needs no BPF."""
    try:
        if isinstance(ready, EnvironmentLacks):
            raise ready
        return ready.attach() if ready else ({"rung": preflight.NETLINK}, [])
    except EnvironmentLacks as error:
        return {"what": error.what, "why": error.why, "do": error.do}, []


def child(fd: int, expected: str) -> None:
    """The child's whole life; ``expected``: the order that will probably come, in JSON."""
    with socket.socket(fileno=fd) as link:
        try:
            ready = _prepared(Order.of(expected))
            order = link.recv(1 << 16).decode()
            if not order:  # whoever started us ahead does not need us
                return
            if Order.of(order) != Order.of(expected):
                ready = _prepared(Order.of(order))
            answer, fds = _attached(ready)
            socket.send_fds(link, [json.dumps(answer).encode()], fds)
        finally:
            clean_up()
    sys.stderr.flush()
    os._exit(0)  # bcc's own clean-up would take a second and detach nothing of ours


if __name__ == "__main__":
    child(int(sys.argv[1]), sys.argv[2])
