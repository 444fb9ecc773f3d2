"""What bcc's Python does not do, by bpf(2) and libbpf's BTF reader, through ctypes.

bpf(2) is called directly, so neither bcc's nor libbpf's age limits what can be attached:
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
from pathlib import Path

from hatrace.errors import EnvironmentLacks

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

BTF_KIND_STRUCT, BTF_KIND_TYPEDEF, BTF_KIND_FUNC = 4, 8, 12


def bpf(command: int, attr: bytes) -> int:
    """bpf(2); returns its result, raises OSError.  ``attr`` is padded with zeros."""
    return _bpf(command, ctypes.create_string_buffer(attr, _ATTR_BYTES))


def _bpf(command: int, buffer: ctypes.Array[ctypes.c_char]) -> int:
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
        return bpf(PROG_LOAD, head.ljust(108, b"\0") + struct.pack("<I", btf_id))

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
    return bpf(LINK_CREATE, struct.pack("<IIII", program, cgroup, attach_type, 0))


def open_tracing(program: int) -> int:
    """Attach a tp_btf, fentry or fexit program: its target is in its BTF id."""
    return bpf(RAW_TRACEPOINT_OPEN, struct.pack("<QI4x", 0, program))


def load_btf(types: bytes) -> int:
    """Types of one's own, for a program to refer to; returns their fd."""
    buffer = ctypes.create_string_buffer(types, len(types))
    return bpf(BTF_LOAD, struct.pack("<QQI", ctypes.addressof(buffer), 0, len(types)))


def run_program(program: int, packet: bytes = b"") -> None:
    """Run a program once, here and now: a socket filter on a packet, a raw tracepoint's on none."""
    data = ctypes.create_string_buffer(packet, len(packet))
    address = ctypes.addressof(data) if packet else 0
    with contextlib.suppress(InterruptedError):  # it has run, and a signal waits
        bpf(PROG_TEST_RUN, struct.pack("<IIIIQ", program, 0, len(packet), 0, address))


def link_iterator(program: int, attach_type: int) -> int:
    """A link for an iterator program; `read_iterator` runs it."""
    return bpf(LINK_CREATE, struct.pack("<IIII", program, 0, attach_type, 0))


def read_iterator(link: int) -> bytes:
    """Run an iterator over all its elements; returns all that its program wrote."""
    reader = bpf(ITER_CREATE, struct.pack("<II", link, 0))
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
            bpf(MAP_LOOKUP_ELEM, self._attr())
        except FileNotFoundError:
            return None
        return self._value.raw

    def set(self, key: bytes, value: bytes) -> None:
        self._key.raw, self._value.raw = key, value
        bpf(MAP_UPDATE_ELEM, self._attr())

    def delete(self, key: bytes) -> None:
        """Remove a key; one that is not there is fine."""
        self._key.raw = key
        try:
            bpf(MAP_DELETE_ELEM, struct.pack("<I4xQ", self.fd, ctypes.addressof(self._key)))
        except FileNotFoundError:
            return

    def __iter__(self) -> Iterator[bytes]:
        """All keys of a hash; those inserted meanwhile may be missing."""
        following = ctypes.create_string_buffer(len(self._key))
        current = 0
        while True:
            attr = struct.pack("<I4xQQQ", self.fd, current, ctypes.addressof(following), 0)
            try:
                bpf(MAP_GET_NEXT_KEY, attr)
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
                _bpf(MAP_LOOKUP_BATCH, buffer)
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
    bpf(OBJ_GET_INFO_BY_FD, attr)
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
    return bpf(ENABLE_STATS, struct.pack("<I", 0))


class Btf:
    """A kernel's types, read by libbpf: the running one's from /sys/kernel/btf/vmlinux, another's
    from a file of the same form."""

    def __init__(self, file: Path | None = None) -> None:
        self._lib, self._btf = _libbpf(), _parsed(file) if file else _vmlinux()

    def find(self, name: str, kind: int) -> int | None:
        """The id of a named type."""
        found = int(self._lib.btf__find_by_name_kind(self._btf, name.encode(), kind))
        return found if found > 0 else None

    def header(self, type_id: int) -> tuple[str, int, int, int, int]:
        """(name, kind, vlen, size or referred type id, address of what follows)."""
        address = int(self._lib.btf__type_by_id(self._btf, type_id))
        name, info, size = struct.unpack("<III", ctypes.string_at(address, 12))
        return self.text(name), info >> 24 & 0x1F, info & 0xFFFF, size, address + 12

    def text(self, offset: int) -> str:
        found = self._lib.btf__name_by_offset(self._btf, offset)
        return ctypes.string_at(found).decode() if found else ""

    def target(self, via: str, name: str) -> int:
        """The id a tracing program is loaded for; raises OSError if the kernel has no such."""
        prefix = {"tp_btf": "btf_trace_", "iter": "bpf_iter_"}.get(via, "")
        kind = BTF_KIND_TYPEDEF if via == "tp_btf" else BTF_KIND_FUNC
        found = self.find(prefix + name, kind)
        if found is None:
            raise OSError(errno.ENOENT, f"this kernel has no {name}")
        return found

    def arguments(self, function: str) -> int | None:
        """How many arguments a kernel function takes; None if BTF does not know it."""
        found = self.find(function, BTF_KIND_FUNC)
        return None if found is None else self.header(self.header(found)[3])[2]


@cache
def maps_may_grow() -> bool:
    """Whether tracing programs may use hashes that take memory as they grow (6.1: bpf_mem_alloc).

    Before, the kernel warns of them, those of PROG_TRACING aside (check_map_prog_compatibility(),
    kernel/bpf/verifier.c).
    """
    return Btf().find("bpf_mem_alloc", BTF_KIND_STRUCT) is not None


@cache
def _vmlinux() -> int:
    """Read once: 8 ms, and each rung that is tried asks."""
    btf = int(_libbpf().btf__load_vmlinux_btf() or 0)
    if not btf:
        raise EnvironmentLacks(
            "cannot read the kernel's BTF",
            "/sys/kernel/btf/vmlinux is missing or unreadable (CONFIG_DEBUG_INFO_BTF)",
            "use a kernel with BTF, or run with --rung netlink",
        )
    return btf


def _parsed(file: Path) -> int:
    btf = int(_libbpf().btf__parse_raw(os.fsencode(file)) or 0)
    if not btf:
        raise EnvironmentLacks(f"cannot read {file}", "libbpf finds no BTF in it")
    return btf


@cache
def _libbpf() -> ctypes.CDLL:
    for name in ("libbpf.so.1", "libbpf.so.0"):
        try:
            lib = ctypes.CDLL(name)
            break
        except OSError:
            continue
    else:
        raise EnvironmentLacks(
            "cannot load libbpf", "libbpf.so is not installed", "apt-get install python3-bpfcc"
        )
    pointer, word = ctypes.c_void_p, ctypes.c_uint32
    for name, result, arguments in (
        ("btf__load_vmlinux_btf", pointer, []),
        ("btf__parse_raw", pointer, [ctypes.c_char_p]),
        ("btf__find_by_name_kind", ctypes.c_int, [pointer, ctypes.c_char_p, word]),
        ("btf__type_by_id", pointer, [pointer, word]),
        ("btf__name_by_offset", pointer, [pointer, word]),
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    lib.libbpf_set_print(None)  # it would write to stderr what we say ourselves
    return lib
