"""Headers from BTF: which files there are, and, where this host has BTF, that they compile and
give each field its place.

BTF is readable by everybody; libbpf reads it, cc measures.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hatrace.errors import EnvironmentLacks
from hatrace.kernel import headers, preflight
from hatrace.kernel.btf import KIND_STRUCT, Btf

needs_btf = pytest.mark.skipif(not preflight.has_btf(), reason="this kernel has no BTF")


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("6.1.0-50-amd64", (6, 1, 0)),
        ("6.12.107+deb13-amd64", (6, 12, 107)),
        ("5.10.0-28-amd64", (5, 10, 0)),
        ("6.18.44-fc-v657", (6, 18, 44)),
        ("7.0", (7, 0, 0)),
        ("unheard of", (0, 0, 0)),
    ],
)
def test_versions(release: str, version: tuple[int, int, int]) -> None:
    assert headers._version(release) == version


@pytest.fixture(scope="module")
def tree() -> dict[str, str]:
    return headers.files()


@needs_btf
def test_every_wanted_field_is_declared(tree: dict[str, str]) -> None:
    text = tree["hatrace/structs.h"]
    for name, fields in headers.WANTED.items():
        if name in headers.OPTIONAL and f"struct {name} {{" not in text:
            continue
        body = text.split(f"struct {name} {{", 1)[1].split("\n}; };", 1)[0]
        for field in fields:
            assert re.search(rf"\b{field.split('.')[-1]}\b", body), f"{name}.{field}"


@needs_btf
def test_offsets_are_the_kernels(tree: dict[str, str], tmp_path: Path) -> None:
    """What cc makes of the header, compared with BTF itself, for each plain field."""
    btf = Btf()
    expected = {}
    for name, fields in headers.WANTED.items():
        kind = btf.find(name, KIND_STRUCT)
        if kind is None:
            continue
        writer = headers._Writer(btf)
        offsets = {member.name: member.offset_bytes for member in writer._members(kind)}
        expected |= {(name, field): offsets[field] for field in fields if "." not in field}
        expected[name, ""] = btf.header(kind)[3]
    assert measured(tree, list(expected), tmp_path) == expected


def measured(
    tree: dict[str, str], wanted: list[tuple[str, str]], folder: Path
) -> dict[tuple[str, str], int]:
    """Offset of each (struct, field), size for an empty field, by cc."""
    for name, text in tree.items():
        path = folder / "include" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    lines = [
        f'__builtin_printf("%s %s %d\\n", "{struct}", "{field or "."}", (int)'
        + (f"__builtin_offsetof(struct {struct}, {field})" if field else f"sizeof(struct {struct})")
        + ");"
        for struct, field in wanted
    ]
    source = folder / "offsets.c"
    source.write_text(
        f"#include <hatrace/structs.h>\nint main(void) {{\n{chr(10).join(lines)}\nreturn 0; }}\n"
    )
    compiler = shutil.which("cc")
    assert compiler is not None
    words = [compiler, "-w", f"-I{folder}/include", "-o", str(folder / "offsets"), str(source)]
    subprocess.run(words, check=True)
    said = subprocess.run([folder / "offsets"], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in said.splitlines()]
    return {(struct, "" if field == "." else field): int(at) for struct, field, at in rows}


@needs_btf
def test_the_tree_is_made_once_and_for_its_owner(tmp_path: Path) -> None:
    first = headers.ensure_tree(tmp_path)
    stamp = (first / "include/linux/types.h").stat().st_mtime_ns
    assert headers.ensure_tree(tmp_path) == first
    assert (first / "include/linux/types.h").stat().st_mtime_ns == stamp
    assert first.stat().st_mode & 0o077 == 0
    assert [path.name for path in tmp_path.iterdir()] == [first.name], "nothing half-made is left"


@needs_btf
def test_a_tree_that_was_not_finished_is_made_again(tmp_path: Path) -> None:
    name = headers.ensure_tree(tmp_path / "first").name
    broken = tmp_path / "second" / name / "include"
    broken.mkdir(parents=True)
    tree = headers.ensure_tree(tmp_path / "second")
    assert tree == broken.parent
    assert (tree / "include/linux/types.h").read_text()


def test_without_btf_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers, "VMLINUX_BTF", tmp_path / "vmlinux")
    with pytest.raises(EnvironmentLacks) as caught:
        headers.ensure_tree(tmp_path)
    assert "no kernel headers" in caught.value.what
    assert "--rung netlink" in caught.value.do


@pytest.mark.parametrize("how", ["missing", "unwritable", "open to others", "no home"])
def test_a_cache_that_cannot_be_used_is_replaced(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    (shared / "hatrace").mkdir(parents=True)
    (shared / "hatrace").chmod(0o777)
    places = {"missing": tmp_path / "a/b", "unwritable": "/proc/1", "open to others": shared}
    monkeypatch.setenv("XDG_CACHE_HOME", str(places.get(how, "")))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    if how == "no home":
        monkeypatch.setattr(Path, "home", no_home)
    folder = headers._cache_folder()
    assert folder.is_relative_to(tmp_path)
    assert folder.stat().st_mode & 0o077 == 0
    headers.clean_up()
    assert folder.exists() is (how == "missing"), "what is no cache does not stay"


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")
