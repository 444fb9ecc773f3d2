"""The kernel's types (BTF), by libbpf's reader, through ctypes."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from functools import cache
from pathlib import Path

from hatrace.errors import EnvironmentLacks

KIND_STRUCT, KIND_TYPEDEF, KIND_FUNC = 4, 8, 12
"""BTF_KIND_*, include/uapi/linux/btf.h."""


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
        kind = KIND_TYPEDEF if via == "tp_btf" else KIND_FUNC
        found = self.find(prefix + name, kind)
        if found is None:
            raise OSError(errno.ENOENT, f"this kernel has no {name}")
        return found

    def arguments(self, function: str) -> int | None:
        """How many arguments a kernel function takes; None if BTF does not know it."""
        found = self.find(function, KIND_FUNC)
        return None if found is None else self.header(self.header(found)[3])[2]


@cache
def maps_may_grow() -> bool:
    """Whether tracing programs may use hashes that take memory as they grow (6.1: bpf_mem_alloc).

    Before, the kernel warns of them, those of PROG_TRACING aside (check_map_prog_compatibility(),
    kernel/bpf/verifier.c).
    """
    return Btf().find("bpf_mem_alloc", KIND_STRUCT) is not None


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
