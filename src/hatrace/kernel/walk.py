"""A program that looks at many flows in one run: a loop, in BPF, around a function.

The function is compiled alone (bpf/scan.bpf.c) and takes one number, a place among the keys in
the map `keys`; it returns 0 where they end.  The loop around it is written here.  With types that
say "a global function of one number" the verifier checks it once (kernel 5.6), and not for each
turn of the loop.  User space copies the keys of a map there, some at a time, and runs it
(kernel/bpf/hashtab.c hands out whole buckets: each key once, whatever is dropped meanwhile).

Iterators over maps would do the same, and are refused on kernels that are hardened against
programs which write to maps in that way.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct

from hatrace.kernel import bpf
from hatrace.kernel.btf import maps_may_grow

KEYS_A_RUN = 1024
"""Nobody else gets the CPU during a run, interrupts aside: about 0.7 ms."""
_PACKET = bytes(14)
"""What a socket filter is run on: an Ethernet header."""
_KEY = struct.Struct("<Q")

_INT, _FUNC, _FUNC_PROTO = 1, 12, 13
_STATIC, _GLOBAL = 0, 1
_STRINGS = b"\0u64\0place\0loop\0look\0"
_TYPES = b"".join(
    (
        struct.pack("<IIII", _STRINGS.index(b"u64"), _INT << 24, 8, 64),
        struct.pack("<IIIII", 0, _FUNC_PROTO << 24 | 1, 1, _STRINGS.index(b"place"), 1),
        struct.pack("<III", _STRINGS.index(b"loop"), _FUNC << 24 | _STATIC, 2),
        struct.pack("<III", _STRINGS.index(b"look"), _FUNC << 24 | _GLOBAL, 2),
    )
)
"""1: u64.  2: u64 (*)(u64 place).  3: loop.  4: look.  Documentation/bpf/btf.rst."""
_LOOP_TYPE, _LOOK_TYPE = 3, 4

_MOV, _MOV_REGISTER, _CALL, _ADD = 0xB7, 0xBF, 0x85, 0x07
_IF_EQUAL, _IF_LESS, _EXIT = 0x15, 0xA5, 0x95


def _instruction(code: int, to: int = 0, of: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("<BBhi", code, of << 4 | to, offset, value)


_LOOP = (
    _instruction(_MOV, 6),
    _instruction(_MOV_REGISTER, 1, 6),
    _instruction(_CALL, of=1, value=5),  # BPF_PSEUDO_CALL: so far from the next one
    _instruction(_IF_EQUAL, 0, offset=2),
    _instruction(_ADD, 6, value=1),
    _instruction(_IF_LESS, 6, offset=-5, value=KEYS_A_RUN),
    _instruction(_MOV_REGISTER, 0, 6),
    _instruction(_EXIT),
)
"""for (n = 0; n < KEYS_A_RUN && look(n); n++); return n."""


def load(function: bytes, name: str) -> int:
    """The loop around a function; returns the program's fd."""
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(_TYPES), len(_TYPES), len(_STRINGS))
    types = bpf.load_btf(header + _TYPES + _STRINGS)
    quiet = maps_may_grow()
    kind = bpf.PROG_RAW_TRACEPOINT if quiet else bpf.PROG_SOCKET_FILTER
    places = struct.pack("<IIII", 0, _LOOP_TYPE, len(_LOOP), _LOOK_TYPE)
    try:
        return bpf.load_program(
            kind,
            b"".join(_LOOP) + function,
            name,
            functions=bpf.Functions(types, places, 2),
        )
    finally:
        os.close(types)


def run(program: int) -> None:
    """Once, with the keys that are there."""
    filters = bpf.program_kind(program) == bpf.PROG_SOCKET_FILTER
    bpf.run_program(program, _PACKET if filters else b"")


class Walk:
    """Runs such a program for every key of a hash; the fds stay the caller's."""

    def __init__(self, program: int, keys_fd: int) -> None:
        self._program = program
        self._keys = mmap.mmap(keys_fd, KEYS_A_RUN * _KEY.size)
        self._place = ctypes.c_char.from_buffer(self._keys)

    def over(self, table: bpf.Map) -> int:
        """Returns how many keys there were."""
        seen = 0
        for count in table.copy_keys(ctypes.addressof(self._place), KEYS_A_RUN):
            if count < KEYS_A_RUN:
                _KEY.pack_into(self._keys, count * _KEY.size, 0)
            if count:
                run(self._program)
            seen += count
        return seen

    def close(self) -> None:
        del self._place
        self._keys.close()
