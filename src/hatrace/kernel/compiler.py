"""BPF C to instructions: bcc as the compiler, and a cache, so that LLVM runs once per kernel.

The result is independent of the run: maps are still numbers (`maps.place` puts fds in).
Only the loader's child imports this with bcc; a cache hit needs neither bcc nor LLVM.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hatrace.errors import EnvironmentLacks

PREFIX = "bpf_iter__"
"""bcc leaves functions of this prefix alone: their context stays a plain pointer."""


Programs = dict[str, bytes]
"""Function name → instructions."""


def compile_files(
    sources: Sequence[Path], headers: Path, defines: tuple[str, ...]
) -> dict[str, Programs]:
    """The programs of several C files, by file name; what is not kept is compiled in two halves
    side by side (LLVM takes 0.3 s and 130 MB for each)."""
    missing = [source for source in sources if not _kept(source, headers, defines).exists()]
    child = os.fork() if len(missing) > 1 else None
    if child == 0:
        try:
            for source in missing[1::2]:
                compile_file(source, headers, defines)
        finally:
            os._exit(0)  # whatever failed, the parent tries again and says why
    for source in missing[::2]:
        compile_file(source, headers, defines)
    if child is not None:
        os.waitpid(child, 0)
    return {source.name: compile_file(source, headers, defines) for source in sources}


def compile_file(source: Path, headers: Path, defines: tuple[str, ...]) -> Programs:
    """The programs of a C file, from the cache if they are there."""
    kept = _kept(source, headers, defines)
    with contextlib.suppress(OSError, ValueError):
        return {name: b64decode(code) for name, code in json.loads(kept.read_text()).items()}
    programs = _compile(source, headers, defines)
    text = json.dumps({name: b64encode(code).decode() for name, code in programs.items()})
    with contextlib.suppress(OSError):
        _write(kept, text)
    return programs


def _kept(source: Path, headers: Path, defines: tuple[str, ...]) -> Path:
    """Where the result is kept."""
    return headers / f"{source.name}-{_key(source, defines)}.json"


def _key(source: Path, defines: tuple[str, ...]) -> str:
    """All that the result depends on beside the header tree: every C file, and the options."""
    digest = hashlib.blake2b(repr(defines).encode(), digest_size=8)
    for path in sorted(source.parent.glob("*.[ch]")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _write(path: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.write(text)
    Path(file.name).rename(path)


def _compile(source: Path, headers: Path, defines: tuple[str, ...]) -> dict[str, bytes]:
    os.environ["BCC_KERNEL_SOURCE"] = str(headers)
    try:
        from bcc import BPF
    except ImportError as error:
        raise EnvironmentLacks(
            "bcc is not installed", str(error), "apt-get install python3-bpfcc"
        ) from None
    cflags = [f"-I{source.parent}", *(f"-D{define}" for define in defines)]
    cflags += ["-Wno-macro-redefined", "-Wno-address-of-packed-member"]
    try:
        module: Any = BPF(src_file=str(source).encode(), cflags=cflags)
    except Exception as error:  # bcc raises the bare class
        raise EnvironmentLacks(
            f"{source.name} does not compile for this kernel",
            str(error),
            "run with --rung netlink, and report `uname -r` and the lines above",
        ) from None
    return {name: bytes(module.dump_func((PREFIX + name).encode())) for name in _functions(source)}


def _functions(source: Path) -> list[str]:
    """The programs that a C file defines."""
    lines = source.read_text().splitlines()
    starts = (line for line in lines if line.startswith(f"int {PREFIX}"))
    return [line.removeprefix(f"int {PREFIX}").split("(")[0] for line in starts]
