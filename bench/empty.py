"""Empty programs at the hooks of the `cgroup` rung, until a signal comes.

What they cost is the floor for whatever has hooks there: the way into a program, and, while BPF
time is counted, two reads of the clock for each run.
"""

from __future__ import annotations

import os
import signal
import struct

from hatrace.kernel import bpf, preflight
from hatrace.kernel.btf import Btf
from hatrace.kernel.rungs import CGROUP, READERS, Hook, Via

_MOV_R0, _EXIT = 0xB7, 0x95


def _code(answer: int) -> bytes:
    """``return answer``, in BPF."""
    return struct.pack("<BBhiBBhi", _MOV_R0, 0, 0, answer, _EXIT, 0, 0, 0)


def _attach(hook: Hook, btf: Btf, cgroup: int) -> int:
    """The link; a cgroup's program that returned 0 would refuse."""
    if hook.via is Via.CGROUP:
        program = bpf.load_program(hook.program_type, _code(1), "empty", hook.attach_type)
        return bpf.link_cgroup(program, cgroup, hook.attach_type)
    target = btf.target(hook.via, hook.target)
    program = bpf.load_program(hook.program_type, _code(0), "empty", hook.attach_type, target)
    return bpf.open_tracing(program)


def main() -> None:
    btf = Btf()
    cgroup = os.open(preflight.cgroup_mount() or "/sys/fs/cgroup", os.O_RDONLY)
    for hook in CGROUP.hooks:
        if hook not in READERS and not hook.optional:
            _attach(hook, btf, cgroup)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pause()


if __name__ == "__main__":
    main()
