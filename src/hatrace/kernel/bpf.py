"""What bcc's Python does not do, by bpf(2), through ctypes.

It is called directly, so neither bcc's nor libbpf's age limits what can be attached:
``bpf_link`` (nothing stays attached when its last fd is closed, also by kill -9), ``tp_btf``
programs and iterators.  Layouts: ``union bpf_attr`` in include/uapi/linux/bpf.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import re
import resource
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

_SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
_ATTR_BYTES = 152
"""Up to ``link_create.kprobe_multi``: kernels accept a longer attr if its tail is zero."""

MAP_CREATE = 0
MAP_LOOKUP_ELEM, MAP_UPDATE_ELEM, MAP_DELETE_ELEM, MAP_GET_NEXT_KEY = 1, 2, 3, 4
PROG_LOAD, OBJ_GET_INFO_BY_FD, RAW_TRACEPOINT_OPEN = 5, 15, 17
PROG_TEST_RUN, BTF_LOAD = 10, 18
MAP_LOOKUP_BATCH, LINK_CREATE, ENABLE_STATS, ITER_CREATE = 24, 28, 32, 33

PROG_SOCKET_FILTER, PROG_KPROBE, PROG_CGROUP_SOCK, PROG_RAW_TRACEPOINT = 1, 2, 9, 17
PROG_CGROUP_SOCK_ADDR, PROG_TRACING = 18, 26

_LOCKED = frozenset({errno.EBUSY, errno.EDEADLK, errno.ETIMEDOUT})
"""What a bucket's lock says that the kernel does not wait for."""


def call(command: int, attr: bytes) -> int:
    """bpf(2); returns its result, raises OSError.  ``attr`` is padded with zeros."""
    return _call(command, ctypes.create_string_buffer(attr, _ATTR_BYTES))


def _call(command: int, buffer: ctypes.Array[ctypes.c_char]) -> int:
    """The same with room for what the kernel answers in ``union bpf_attr`` itself."""
    number = _SYSCALL.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"bpf(2) is not known for {platform.machine()}")
    result = int(_libc().syscall(number, command, buffer, _ATTR_BYTES))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def unlimit_memory() -> None:
    """Before 5.11 BPF memory counts as locked memory, and 64 kB of it is the usual limit."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY,) * 2)


@dataclass(frozen=True, slots=True)
class Functions:
    """What a program says of its own functions."""

    btf_fd: int
    places: bytes
    """``struct bpf_func_info`` for each: the instruction it begins with, its type's id."""
    count: int


def load_program(
    kind: int,
    instructions: bytes,
    name: str,
    attach_type: int = 0,
    btf_id: int = 0,
    functions: Functions | None = None,
) -> int:
    """Load a GPL program; returns its fd.  The verifier's last sentence goes into the OSError."""
    code = ctypes.create_string_buffer(instructions, len(instructions))
    of = functions or Functions(0, b"", 0)
    places = ctypes.create_string_buffer(of.places, len(of.places))
    licence = ctypes.create_string_buffer(b"GPL")
    log = ctypes.create_string_buffer(1 << 20)

    def attempt(level: int) -> int:
        head = struct.pack(
            "<IIQQIIQII16sIIIIQI",
            kind,
            len(instructions) // 8,
            ctypes.addressof(code),
            ctypes.addressof(licence),
            level,
            len(log) if level else 0,
            ctypes.addressof(log) if level else 0,
            0,
            0,
            name.encode()[:15],
            0,
            attach_type,
            of.btf_fd,
            len(of.places) // max(1, of.count),
            ctypes.addressof(places) if of.count else 0,
            of.count,
        )
        return call(PROG_LOAD, head.ljust(108, b"\0") + struct.pack("<I", btf_id))

    try:
        return attempt(0)
    except OSError as error:
        try:
            return attempt(1)
        except OSError:
            said = _verdict(log.value.decode(errors="replace"))
            raise OSError(error.errno, "; ".join(filter(None, (error.strerror, said)))) from None


def _verdict(log: str) -> str:
    """The verifier's last sentence: instructions and statistics around it help nobody here."""
    lines = (line.strip() for line in log.splitlines())
    words = [
        line
        for line in lines
        if line and not re.match(r"processed \d|(verification|stack depth|max_states)\b", line)
    ]
    return words[-1] if words else ""


def link_cgroup(program: int, cgroup: int, attach_type: int) -> int:
    """Attach to a cgroup directory's fd by bpf_link; programs of others are kept."""
    return call(LINK_CREATE, struct.pack("<IIII", program, cgroup, attach_type, 0))


def open_tracing(program: int) -> int:
    """Attach a tp_btf, fentry or fexit program: its target is in its BTF id."""
    return call(RAW_TRACEPOINT_OPEN, struct.pack("<QI4x", 0, program))


def load_btf(types: bytes) -> int:
    """Types of one's own, for a program to refer to; returns their fd."""
    buffer = ctypes.create_string_buffer(types, len(types))
    return call(BTF_LOAD, struct.pack("<QQI", ctypes.addressof(buffer), 0, len(types)))


def run_program(program: int, packet: bytes = b"") -> None:
    """Run a program once, here and now: a socket filter on a packet, a raw tracepoint's on none."""
    data = ctypes.create_string_buffer(packet, len(packet))
    address = ctypes.addressof(data) if packet else 0
    with contextlib.suppress(InterruptedError):  # it has run, and a signal waits
        call(PROG_TEST_RUN, struct.pack("<IIIIQ", program, 0, len(packet), 0, address))


def link_iterator(program: int, attach_type: int) -> int:
    """A link for an iterator program; `read_iterator` runs it."""
    return call(LINK_CREATE, struct.pack("<IIII", program, 0, attach_type, 0))


def read_iterator(link: int) -> bytes:
    """Run an iterator over all its elements; returns all that its program wrote."""
    reader = call(ITER_CREATE, struct.pack("<II", link, 0))
    try:
        chunks = []
        while chunk := _read_again(reader):
            chunks.append(chunk)
        return b"".join(chunks)
    finally:
        os.close(reader)


def _read_again(fd: int) -> bytes:
    """read(2) of a bpf iterator, which answers EAGAIN when it only wants to be polite."""
    for _ in range(1000):
        try:
            return os.read(fd, 1 << 18)
        except BlockingIOError:
            continue
    raise OSError(errno.EAGAIN, "the iterator does not come to an end")


class Map:
    """A BPF map by its fd: raw keys and values as bytes; a stack's keys are empty."""

    def __init__(self, fd: int, key_bytes: int, value_bytes: int) -> None:
        self.fd, self._value_bytes = fd, value_bytes
        self._key = ctypes.create_string_buffer(key_bytes)
        self._value = ctypes.create_string_buffer(value_bytes)

    def _attr(self, flags: int = 0) -> bytes:
        key = ctypes.addressof(self._key) if len(self._key) else 0
        value = ctypes.addressof(self._value)
        return struct.pack("<I4xQQQ", self.fd, key, value, flags)

    def get(self, key: bytes) -> bytes | None:
        self._key.raw = key
        try:
            call(MAP_LOOKUP_ELEM, self._attr())
        except FileNotFoundError:
            return None
        return self._value.raw

    def set(self, key: bytes, value: bytes) -> None:
        self._key.raw, self._value.raw = key, value
        call(MAP_UPDATE_ELEM, self._attr())

    def delete(self, key: bytes) -> None:
        """Remove a key; one that is not there is fine."""
        self._key.raw = key
        try:
            call(MAP_DELETE_ELEM, struct.pack("<I4xQ", self.fd, ctypes.addressof(self._key)))
        except FileNotFoundError:
            return

    def __iter__(self) -> Iterator[bytes]:
        """All keys of a hash; those inserted meanwhile may be missing."""
        following = ctypes.create_string_buffer(len(self._key))
        current = 0
        while True:
            attr = struct.pack("<I4xQQQ", self.fd, current, ctypes.addressof(following), 0)
            try:
                call(MAP_GET_NEXT_KEY, attr)
            except FileNotFoundError:
                return
            self._key.raw = following.raw
            current = ctypes.addressof(self._key)
            yield following.raw

    def copy_keys(self, to: int, most: int) -> Iterator[int]:
        """Copy all keys of a hash to an address, at most so many at a time (kernel 5.6).

        Yields how many there are now.  Each comes once, whatever is dropped meanwhile; what is
        inserted may be missing.  Raises OSError where a bucket stays locked.
        """
        values = ctypes.create_string_buffer(most * self._value_bytes)  # copied, wanted or not
        bucket = ctypes.create_string_buffer(4)
        begin, following = 0, ctypes.addressof(bucket)
        more, patience = True, 1000
        while more:
            attr = struct.pack(
                "<QQQQII", begin, following, to, ctypes.addressof(values), most, self.fd
            )
            buffer = ctypes.create_string_buffer(attr, _ATTR_BYTES)
            try:
                _call(MAP_LOOKUP_BATCH, buffer)
            except FileNotFoundError:
                more = False
            except OSError as error:  # what was copied before it, counts
                if error.errno not in _LOCKED or not patience:
                    raise
                patience -= 1
            count = int(struct.unpack_from("<I", buffer.raw, 32)[0])
            yield count
            begin = following if count else begin


def _program_info(program: int) -> bytes:
    """``struct bpf_prog_info``."""
    info = ctypes.create_string_buffer(232)
    attr = struct.pack("<IIQ", program, len(info), ctypes.addressof(info))
    call(OBJ_GET_INFO_BY_FD, attr)
    return info.raw


def program_kind(program: int) -> int:
    return int(struct.unpack_from("<I", _program_info(program))[0])


def program_stats(program: int) -> tuple[int, int]:
    """(run time in ns, runs) of a program; zeros unless statistics are on."""
    # run_time_ns and run_cnt follow prog_tags at byte 192.
    run_ns, runs = struct.unpack_from("<QQ", _program_info(program), 192)
    return run_ns, runs


def enable_stats() -> int:
    """Count run times while the returned fd is open (BPF_STATS_RUN_TIME, 5.8)."""
    return call(ENABLE_STATS, struct.pack("<I", 0))
