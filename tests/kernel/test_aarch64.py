"""The BPF programs for aarch64, compiled here against the types of Debian's kernel for it.

tests/golden/arm64 is what hatrace writes on such a machine (`python3 -m vm.arm64` makes it).
The layout of what crosses to user space: tests/unit/kernel/test_wire.py, with a cross compiler.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from hatrace.kernel import headers
from hatrace.kernel.rungs import LADDER
from hatrace.resources import bpf_dir
from tests.kernel.running import SOURCE

TREE = Path(__file__).parents[1] / "golden/arm64"
COMPILE = """
import json, sys
from pathlib import Path
from hatrace.kernel.compiler import compile_file
tree, sources = Path(sys.argv[1]), map(Path, sys.argv[2:])
defines = ("TARGETS=4096", "ACCEPT_ARGUMENTS=4", "ANCESTOR_CGROUP=1")
programs = {source.name: compile_file(source, tree, defines) for source in sources}
print(json.dumps({file: {name: code.hex() for name, code in found.items()}
                  for file, found in programs.items()}))
"""
FIRST_ARGUMENT = {"arm64": 0, "x86": 14 * 8}
"""Where struct pt_regs has it, in bytes: regs[0], di."""
LOAD = 0x79
"""BPF_LDX | BPF_MEM | BPF_DW."""


def compiled(machine: str, tree: Path) -> Mapping[str, Mapping[str, bytes]]:
    """File → function → instructions.  bcc takes the machine from the environment (`ARCH`)."""
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, tree, *bpf_dir().glob("*.bpf.c")],
        env=os.environ | {"PYTHONPATH": SOURCE, "ARCH": machine},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return {
        file: {name: bytes.fromhex(code) for name, code in programs.items()}
        for file, programs in json.loads(done.stdout).items()
    }


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TREE, tmp_path / "arm64"))


def first_load(code: bytes) -> int:
    """The offset that a program first reads of its context."""
    instructions = (code[at : at + 8] for at in range(0, len(code), 8))
    return next(
        int.from_bytes(one[2:4], "little")
        for one in instructions
        if one[0] == LOAD and one[1] >> 4 == 1
    )


def test_every_program_of_every_rung(tree: Path) -> None:
    """All of them, with the kprobes' argument where aarch64 has it."""
    programs = compiled("arm64", tree)
    hooks = {(hook.source, hook.function) for rung in LADDER for hook in rung.hooks}
    assert hooks == {(file, name) for file, found in programs.items() for name in found}
    kprobes = programs["kprobe.bpf.c"]
    assert {first_load(code) for code in kprobes.values()} == {FIRST_ARGUMENT["arm64"]}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="compares with x86-64")
def test_it_is_not_this_machines(tree: Path) -> None:
    kprobes = compiled("x86", headers.ensure_tree())["kprobe.bpf.c"]
    assert {first_load(code) for code in kprobes.values()} == {FIRST_ARGUMENT["x86"]}


def test_the_tree_is_what_this_hatrace_writes() -> None:
    """The same files, and the same structs with the same fields, as for the kernel here."""
    here = headers.files()
    assert {str(p.relative_to(TREE / "include")) for p in TREE.rglob("*.h")} == here.keys()
    text = (TREE / "include/hatrace/structs.h").read_text()
    for name, fields in headers.WANTED.items():
        assert f"struct {name} {{" in text
        for field in fields:
            assert f"{field.rpartition('.')[2]};" in text or f"{field.rpartition('.')[2]}[" in text
