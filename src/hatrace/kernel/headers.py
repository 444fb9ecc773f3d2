"""Kernel headers from the running kernel's own BTF: the few structs hatrace reads, exactly.

bcc compiles against a kernel source tree and most hosts have none.  This writes one, of a few
kilobytes, with every field at the offset the running kernel gives it, and names the files as
the kernel does, so that the C files compile unchanged against real headers as well.

A struct becomes a union of padded views, one for each field::

    struct sock { union {
        struct { u8 pad1[18]; u8 skc_state; } __attribute__((packed, aligned(8)));
        ...
    }; };

``aligned(8)`` matters: with ``packed`` alone clang loads a word byte by byte.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hatrace.errors import EnvironmentLacks
from hatrace.kernel.btf import KIND_STRUCT, Btf

VMLINUX_BTF = Path("/sys/kernel/btf/vmlinux")

WANTED: dict[str, tuple[str, ...]] = {
    "ns_common": ("inum",),
    "net": ("ns",),
    "sock_common": (
        "skc_daddr",
        "skc_rcv_saddr",
        "skc_dport",
        "skc_num",
        "skc_family",
        "skc_state",
        "skc_v6_daddr",
        "skc_v6_rcv_saddr",
        "skc_net.net",
        "skc_cookie.counter",
        "skc_flags",
        "skc_refcnt.refs.counter",
    ),
    "inode": ("i_ino", "i_mode"),
    "socket": ("sk",),
    "socket_alloc": ("socket", "vfs_inode"),
    "sock": (
        "__sk_common",
        "sk_socket",
        "sk_err",
        "sk_protocol",
        "sk_shutdown",
        "sk_ack_backlog",
        "sk_max_ack_backlog",
    ),
    "inet_sock": ("inet_sport",),
    "inet_connection_sock": ("icsk_ack.lrcvtime",),
    "tcp_sock": (
        "bytes_sent",
        "bytes_retrans",
        "bytes_received",
        "rcv_nxt",
        "copied_seq",
        "write_seq",
        "snd_una",
        "lsndtime",
        "tcp_mstamp",
    ),
    "mptcp_sock": ("first",),
    "file": ("f_inode", "private_data"),
    "task_struct": ("tgid", "pid", "comm"),
}
"""Struct → fields, members before those that hold them; a dot enters an unnamed struct."""

OPTIONAL: frozenset[str] = frozenset({"inet_sock", "mptcp_sock"})

_EMPTY_HEADERS: tuple[str, ...] = (
    "linux/bpf_common.h",
    "uapi/linux/bpf.h",
    "uapi/linux/if_packet.h",
    "linux/log2.h",
)
_STRUCT_HEADERS: tuple[str, ...] = (
    "net/sock.h",
    "net/inet_sock.h",
    "linux/tcp.h",
    "linux/fs.h",
    "linux/net.h",
)
_STRUCT_HEADERS += ("linux/sched.h", "net/net_namespace.h", "net/tcp.h", "linux/socket.h")

_TYPES = """#pragma once
typedef unsigned char __u8; typedef unsigned short __u16; typedef unsigned int __u32;
typedef unsigned long long __u64; typedef signed char __s8; typedef short __s16;
typedef int __s32; typedef long long __s64;
typedef __u8 u8; typedef __u16 u16; typedef __u32 u32; typedef __u64 u64;
typedef __s8 s8; typedef __s16 s16; typedef __s32 s32; typedef __s64 s64;
typedef __u16 __be16; typedef __u32 __be32; typedef __u64 __be64; typedef __u32 __wsum;
typedef __u16 __le16; typedef __u32 __le32; typedef __u16 __sum16; typedef _Bool bool;
typedef unsigned long size_t; typedef unsigned long uintptr_t; typedef int pid_t;
typedef __u64 __aligned_u64 __attribute__((aligned(8)));
#define NULL ((void *)0)
#define true 1
#define false 0
"""

_STATES = (
    "ESTABLISHED SYN_SENT SYN_RECV FIN_WAIT1 FIN_WAIT2 TIME_WAIT CLOSE CLOSE_WAIT LAST_ACK "
    "LISTEN CLOSING NEW_SYN_RECV"
)


@dataclass(frozen=True, slots=True)
class Kernel:
    """For which kernel a tree is made: the running one, or one whose BTF lies in a file."""

    machine: str = platform.machine()
    """As uname says."""
    release: str = platform.release()
    page_bytes: int = os.sysconf("SC_PAGE_SIZE")
    btf: Path | None = None
    """None: the running one's."""


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    type_id: int
    offset_bytes: int


def ensure_tree(cache: Path | None = None) -> Path:
    """The header tree for the running kernel, written if it is not there yet.

    Kept per kernel build (a hash of its BTF); a cache that cannot be written is replaced by a
    temporary folder.  Raises EnvironmentLacks without BTF.
    """
    try:
        key = hashlib.blake2b(
            VMLINUX_BTF.read_bytes() + repr((WANTED, _TYPES)).encode(), digest_size=8
        ).hexdigest()
    except OSError as error:
        raise EnvironmentLacks(
            "no kernel headers can be made",
            f"{VMLINUX_BTF}: {error.strerror}",
            "install linux-headers-$(uname -r), or use --rung netlink",
        ) from None
    tree = (cache or _cache_folder()) / f"headers-{platform.release()}-{key}"
    if not (tree / "complete").exists():
        _write_tree(tree)
    return tree


def _cache_folder() -> Path:
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hatrace"
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Root compiles what lies here: nobody else may be able to change it.
        seen = base.stat()
        closed = seen.st_uid == os.geteuid() and not seen.st_mode & 0o022
        if closed and os.access(base, os.W_OK):
            return base
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        pass
    _temporary.append(Path(tempfile.mkdtemp(prefix="hatrace-")))
    return _temporary[-1]


_temporary: list[Path] = []


def clean_up() -> None:
    """Remove what was made in place of a cache."""
    while _temporary:
        shutil.rmtree(_temporary.pop(), ignore_errors=True)


def _write_tree(tree: Path) -> None:
    """Write beside the final place, then rename: two starts at once do no harm."""
    tree.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=".headers-", dir=tree.parent))
    for name, text in files().items():
        path = new / "include" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (new / "complete").touch()
    if tree.exists() and not (tree / "complete").exists():
        shutil.rmtree(tree)
    try:
        new.rename(tree)
    except OSError:  # another start was first
        shutil.rmtree(new, ignore_errors=True)
        if not (tree / "complete").exists():
            raise


def files(kernel: Kernel | None = None) -> dict[str, str]:
    """Path below include/ → text; None: for the running kernel."""
    kernel = kernel or Kernel()
    structs = "\n".join(_Writer(Btf(kernel.btf)).structs())
    machine = {"x86_64": "X86_64", "aarch64": "ARM64"}.get(kernel.machine, "64BIT")
    version = _version(kernel.release)
    tree = dict.fromkeys(_EMPTY_HEADERS, "")
    tree |= dict.fromkeys(_STRUCT_HEADERS, "#include <hatrace/structs.h>\n")
    tree["linux/types.h"] = _TYPES
    tree["asm/page.h"] = f"#define PAGE_SIZE {kernel.page_bytes}\n"
    tree["linux/kconfig.h"] = f"#define CONFIG_BPF_SYSCALL 1\n#define CONFIG_{machine} 1\n"
    tree["linux/version.h"] = (
        "#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + ((c) > 255 ? 255 : (c)))\n"
        f"#define LINUX_VERSION_CODE KERNEL_VERSION({version[0]}, {version[1]}, {version[2]})\n"
    )
    tree["hatrace/structs.h"] = _struct_header(structs)
    return tree


def _version(release: str) -> tuple[int, int, int]:
    """``6.1.0-50-amd64`` is 6.1.0, Debian 13's ``6.12.107+deb13-amd64`` is 6.12.107."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", release)
    first, second, third = found.groups(default="0") if found else ("0", "0", "0")
    return int(first), int(second), int(third)


def _struct_header(structs: str) -> str:
    states = "".join(f"\tTCP_{name} = {n},\n" for n, name in enumerate(_STATES.split(), 1))
    return (
        "/* Made by hatrace from this kernel's BTF: only the fields it reads. */\n#pragma once\n"
        "#include <linux/types.h>\n"
        "#define AF_INET 2\n#define AF_INET6 10\n#define IPPROTO_TCP 6\n"
        "#define S_IFMT 0170000\n#define S_IFSOCK 0140000\n"
        f"enum {{\n{states}}};\n{structs}\n"
    )


class _Writer:
    """Writes C structs out of BTF."""

    def __init__(self, btf: Btf) -> None:
        self._btf = btf

    def structs(self) -> Iterator[str]:
        for name, fields in WANTED.items():
            type_id = self._btf.find(name, KIND_STRUCT)
            if type_id is not None:
                size = self._btf.header(type_id)[3]
                views = self._views(type_id, fields, f"struct {name}")
                yield f"struct {name} {{ union {{\n\tu8 size_of_it[{size}];\n{views}}}; }};"
                yield f"#define HAS_{name.upper()} 1"
            elif name not in OPTIONAL:
                raise EnvironmentLacks(
                    "this kernel's BTF is not as expected",
                    f"it has no struct {name}",
                    "run with --rung netlink, and report `uname -r`",
                )

    def _views(self, type_id: int, fields: tuple[str, ...], owner: str) -> str:
        """One padded view for each field."""
        lines = []
        for path in fields:
            first, _, rest = path.partition(".")
            member = next((m for m in self._members(type_id) if m.name == first), None)
            if member is None:
                raise EnvironmentLacks(
                    "this kernel's BTF is not as expected",
                    f"{owner} has no field {first}",
                    "run with --rung netlink, and report `uname -r`",
                )
            if rest:
                inner = self._views(self._resolve(member.type_id), (rest,), f"{owner}.{first}")
                declared = f"struct {{ union {{\n{inner}}}; }} {first}"
            else:
                declared = self._declare(member.type_id, first)
            pad = f"u8 pad_{first}[{member.offset_bytes}]; " if member.offset_bytes else ""
            lines.append(f"\tstruct {{ {pad}{declared}; }} __attribute__((packed, aligned(8)));\n")
        return "".join(lines)

    def _members(self, type_id: int, base: int = 0) -> Iterator[_Member]:
        """Named members, those of unnamed structs and unions included; no bit-fields."""
        _, kind, count, _, address = self._btf.header(type_id)
        if kind not in (4, 5):
            return
        for index in range(count):
            name, member_type, offset = _words(address + 12 * index)
            bits = offset & 0xFFFFFF
            if offset >> 24:  # a bit-field, where the struct has kind_flag
                continue
            text = self._btf.text(name)
            if text:
                yield _Member(text, member_type, base + bits // 8)
            else:
                yield from self._members(self._resolve(member_type), base + bits // 8)

    def _resolve(self, type_id: int) -> int:
        """Through typedef, const, volatile, restrict and type tags."""
        while self._btf.header(type_id)[1] in (8, 9, 10, 11, 18):
            type_id = self._btf.header(type_id)[3]
        return type_id

    def _declare(self, type_id: int, field: str) -> str:
        type_id = self._resolve(type_id)
        name, kind, _, size, _ = self._btf.header(type_id)
        if kind == 2:  # pointer
            pointed, pointed_kind = self._btf.header(self._resolve(size))[:2] if size else ("", 0)
            return f"struct {pointed} *{field}" if pointed_kind in (4, 7) else f"void *{field}"
        if kind in (1, 6, 19):  # int, enum, enum64
            return f"u{8 * size} {field}"
        if kind == 4 and name in WANTED:
            return f"struct {name} {field}"
        return f"u8 {field}[{self._size(type_id)}]"

    def _size(self, type_id: int) -> int:
        """Bytes of a type."""
        _, kind, _, size, address = self._btf.header(type_id)
        if kind == 3:  # array: element type, index type, count
            element, _, count = _words(address)
            return count * self._size(self._resolve(element))
        return 8 if kind == 2 else size


def _words(address: int) -> tuple[int, int, int]:
    """Three u32 in memory: struct btf_member and struct btf_array have this shape."""
    first, second, third = (ctypes.c_uint32 * 3).from_address(address)
    return first, second, third
