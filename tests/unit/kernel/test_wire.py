"""bpf/flow.h against its Python twins, byte for byte: cc says where each field lies.

The names in kernel/wire.py stand in the docstring below each layout; they are read from
there, so the docstrings are checked, too.
"""

from __future__ import annotations

import ast
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from hatrace.commands._tracing import SOON_S
from hatrace.kernel import decode, wire
from hatrace.model import columns, flow
from hatrace.resources import bpf_dir

FLOW_H = bpf_dir() / "flow.h"

TYPES = "typedef unsigned char __u8; typedef unsigned short __u16; typedef unsigned int __u32;\n"
TYPES += "typedef unsigned long long __u64; typedef int __s32; typedef long long __s64;\n"

TWINS = {
    "target_key": "TARGET_KEY",
    "target_total": "TARGET_TOTAL",
    "losses": "LOSSES",
    "config": "CONFIG",
    "criteria": "CRITERIA",
    "held": "HELD",
    "process": "PROCESS",
    "lane": "LANE",
    "block": "BLOCK",
    "unix_path": "UNIX_PATH",
    "unix_caller": "UNIX_CALLER",
    "unix_calls": "UNIX_CALLS",
}
"""struct of flow.h -> its layout in kernel/wire.py; struct flow's is in model/flow.py."""


@dataclass(frozen=True)
class Layout:
    """Size of a struct, and offset and size of each field but padding, in bytes."""

    size: int
    fields: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Header:
    """What cc makes of flow.h: its structs, and the value of each enumerator and macro."""

    structs: dict[str, Layout]
    values: dict[str, int]


def declared(text: str) -> tuple[dict[str, list[str]], list[str]]:
    """Names only: the fields of each struct; enumerators and numeric macros."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    structs = {
        name: re.findall(r"(\w+)(?:\[[\w +]+\])*;", body)
        for name, body in re.findall(r"struct (\w+) \{(.*?)\n\};", text, re.DOTALL)
    }
    bodies = re.findall(r"enum \w+ \{(.*?)\}", text, re.DOTALL)
    values = re.findall(r"(\w+)\s*=", " ".join(bodies))
    return structs, values + re.findall(r"#define (\w+)[ \t]+\d+", text)


def compiled(text: str, folder: Path, compiler: str = "cc") -> Header:
    """``text`` as flow.h, compiled and asked where things are: in the assembler's text, so that
    it need not run here (as the kernel's own asm-offsets.c does it)."""
    structs, values = declared(text)
    lines = [tell(f"value {name} %c0 %c1", f"(long){name}", "0") for name in values]
    for name, fields in structs.items():
        lines.append(tell(f"{name} . %c0 %c1", f"sizeof(struct {name})", "0"))
        for field in fields:
            size = f"sizeof(((struct {name} *)0)->{field})"
            lines.append(tell(f"{name} {field} %c0 %c1", f"offsetof(struct {name}, {field})", size))
    (folder / "linux").mkdir(exist_ok=True)
    (folder / "linux/types.h").write_text(TYPES)
    source = folder / "layout.c"
    includes, body = "#include <linux/types.h>\n#include <stddef.h>\n", "\n".join(lines)
    source.write_text(f"{includes}{text}\nvoid layout(void)\n{{\n{body}\n}}\n")
    words = [compiler, "-Wall", "-Werror", f"-I{folder}", "-S", "-o", "-", source]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return parsed("\n".join(re.findall(r"^-> (.*)", said, re.MULTILINE)))


def tell(text: str, first: str, second: str) -> str:
    return f'asm volatile("\\n-> {text}" :: "i"({first}), "i"({second}));'


def parsed(output: str) -> Header:
    header = Header({}, {})
    for line in output.splitlines():
        owner, name, first, second = line.split()
        if owner == "value":
            header.values[name] = int(first)
        elif name == ".":
            header.structs[owner] = Layout(int(first), {})
        elif name not in ("pad", "calm"):  # the second is the kernel's own
            header.structs[owner].fields[name] = (int(first), int(second))
    return header


def described(layout: struct.Struct, names: list[str]) -> Layout:
    """A `struct.Struct` whose items are called ``names``; ``name[n]`` takes n items."""
    items = list(item_sizes(layout.format))
    fields = {}
    for name in names:
        array = re.fullmatch(r"(\w+)\[(\d+)\]", name)
        count = int(array[2]) if array else 1
        taken, items = items[:count], items[count:]
        fields[array[1] if array else name] = (taken[0][0], sum(size for _, size in taken))
    assert not items, f"{layout.format} has more items than {names}"
    return Layout(layout.size, fields)


def item_sizes(layout: str) -> Iterator[tuple[int, int]]:
    """Offset and size of each item of a little-endian layout without alignment."""
    offset = 0
    for count, code in re.findall(r"(\d*)([a-zA-Z])", layout):
        width = struct.calcsize(f"<{code}")
        whole = code in "sx"
        for _ in range(1 if whole else int(count or 1)):
            size = int(count or 1) if whole else width
            if code != "x":
                yield offset, size
            offset += size


def documented_names() -> dict[str, list[str]]:
    """The docstring below each layout of kernel/wire.py, as a list of names."""
    body = ast.parse(Path(wire.__file__).read_text()).body
    return {
        ast.unparse(first.targets[0]): ast.literal_eval(second.value).rstrip(".").split(", ")
        for first, second in pairwise(body)
        if isinstance(first, ast.Assign)
        and isinstance(second, ast.Expr)
        and isinstance(second.value, ast.Constant)
    }


@pytest.fixture(
    scope="module",
    params=["cc", pytest.param("aarch64-linux-gnu-gcc", marks=pytest.mark.kernel)],
)
def header(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Header:
    """For this machine, and for aarch64: there only where a cross compiler is, as in CI."""
    compiler: str = request.param
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}: apt-get install gcc-aarch64-linux-gnu")
    return compiled(FLOW_H.read_text(), tmp_path_factory.mktemp("flow"), compiler)


def test_every_struct_has_a_twin(header: Header) -> None:
    assert header.structs.keys() == {"flow", *TWINS}


def test_flow(header: Header) -> None:
    names = [field.name for field in flow.FIELDS]
    assert described(flow.LAYOUT, names) == header.structs["flow"]


def test_a_flow_has_a_name_for_each_field() -> None:
    renamed = {"comm_bytes": "comm"}
    assert [renamed.get(name, name) for name in flow.Flow._fields] == [f.name for f in flow.FIELDS]


@pytest.mark.parametrize("name", TWINS)
def test_other_structs(header: Header, name: str) -> None:
    constant = TWINS[name]
    twin = described(getattr(wire, constant), documented_names()[constant])
    assert twin == header.structs[name]


def test_flags(header: Header) -> None:
    flags = {name: value for name, value in header.values.items() if name.startswith("FLOW_")}
    assert flags.pop("FLOW_WORDS") == columns.WORDS
    assert {f"FLOW_{flag.name}": flag.value for flag in flow.Flag} == flags


def test_blocks(header: Header) -> None:
    assert header.values["BLOCK_FLOWS"] == wire.BLOCK_FLOWS
    assert wire.BLOCK.size == (columns.WORDS + 1) * wire.BLOCK_WORDS * 8


def test_scopes(header: Header) -> None:
    scopes = {name: value for name, value in header.values.items() if name.startswith("SCOPE_")}
    assert {name: getattr(wire, name) for name in scopes} == scopes


def test_directions(header: Header) -> None:
    for name, inbound in (("OUTBOUND", False), ("INBOUND", True)):
        key = wire.TARGET_KEY.pack(bytes(16), 0, 0, 0, header.values[name])
        total = bytes(wire.TARGET_TOTAL.size)
        assert decode.target(0, key, total, open_now=0).inbound is inbound


def test_lifetime_buckets(header: Header) -> None:
    key = bytes(wire.TARGET_KEY.size)
    target = decode.target(0, key, bytes(wire.TARGET_TOTAL.size), open_now=0)
    assert len(target.lifetime) == header.values["LIFETIME_BUCKETS"]


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("__u32 pid;\t\t/* tgid which owns it", "__u64 pid;\t\t/* tgid which owns it"),
        ("__u64 fin_ns;", "__u64 final_ns;"),
        ("__u8 laddr[16];\n\t__u8 raddr[16];", "__u8 raddr[16];\n\t__u8 laddr[16];"),
        ("__u8 state;\t\t/* TCP_ESTABLISHED", "__u8 more[8]; __u8 state;\t\t/* TCP_ESTABLISHED"),
    ],
    ids=["wider", "renamed", "swapped", "longer"],
)
def test_a_changed_header_is_noticed(header: Header, good: str, bad: str, tmp_path: Path) -> None:
    text = FLOW_H.read_text()
    assert text.count(good) == 1
    changed = compiled(text.replace(good, bad), tmp_path)
    assert changed.structs["flow"] != header.structs["flow"]


def test_criteria_of_each_kind() -> None:
    """In the order of the struct, so that no two ages are swapped on their way."""
    criteria = wire.Criteria(1, 2, 3, 4, 5, 6, everything=True, whole=True)
    names = documented_names()["CRITERIA"]
    values = dict(zip(names, wire.CRITERIA.unpack(criteria.pack()), strict=True))
    assert values == {
        "half_closed_ns": 1, "ghost_ns": 2, "orphan_ns": 3, "unanswered_ns": 4, "idle_ns": 5,
        "limit": 6, "everything": 1, "whole": 1,
    }  # fmt: skip


def test_a_healthy_socket_meets_no_criterion_by_default() -> None:
    assert wire.Criteria().idle_ns == 0, "old and quiet is no fault"
    assert not wire.Criteria().everything


def test_a_ghost_that_was_there_at_the_first_picture_is_told_with_the_second() -> None:
    assert wire.Criteria().ghost_ns < 0.9 * SOON_S * 1e9


def test_a_config_and_a_name_that_is_too_long() -> None:
    config = wire.Config(
        7, wire.SCOPE_CGROUP, hz=250, cgroup_id=8, cgroup_level=2, summary=True,
        ephemeral=range(10_000, 20_001), lane_flows=64,
    )  # fmt: skip
    names = documented_names()["CONFIG"]
    values = dict(zip(names, wire.CONFIG.unpack(config.pack()), strict=True))
    assert values == {
        "secret": 7, "cgroup_id": 8, "cgroup_level": 2, "scope": 1, "summary": 1, "hz": 250,
        "comm": bytes(16), "port_low": 10_000, "port_high": 20_000, "lane_flows": 64,
    }  # fmt: skip
    long = wire.Config(0, wire.SCOPE_TGIDS, comm=b"a-name-of-twenty-one")
    assert (
        dict(zip(names, wire.CONFIG.unpack(long.pack()), strict=True))["comm"]
        == b"a-name-of-twent\0"
    )
