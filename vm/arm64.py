"""Debian's kernel for aarch64, as far as no machine is needed: its types, out of its image.

python3 -m vm.arm64        makes tests/golden/arm64 anew, when headers.WANTED has changed
"""

from __future__ import annotations

import shutil
import struct
import sys
import tempfile
from pathlib import Path

from hatrace.kernel.headers import Kernel, files
from hatrace.lab.apt import Apt
from vm.images import CACHE, TOP, depends

TREE = TOP / "tests/golden/arm64"
_MAGIC = bytes.fromhex("9feb0100")
"""struct btf_header, include/uapi/linux/btf.h: magic, version, flags."""


def btf(image: bytes) -> bytes:
    """The kernel's own types: the largest piece of an (uncompressed) image that begins as BTF."""
    pieces = []
    at = image.find(_MAGIC)
    while at >= 0:
        _, size, types, types_bytes, strings, strings_bytes = struct.unpack_from(
            "<IIIIII", image, at
        )
        if size == 24 and types == 0 and strings == types_bytes:
            pieces.append(image[at : at + size + types_bytes + strings_bytes])
        at = image.find(_MAGIC, at + 1)
    return max(pieces, key=len, default=b"")


def main() -> None:
    apt = Apt("bookworm", CACHE, architecture="arm64")
    apt("apt-get", "-q", "update")
    [image] = depends(apt, "linux-image-cloud-arm64")
    with tempfile.TemporaryDirectory() as temp:
        apt.unpack([image], Path(temp))
        types = Path(temp, "btf")
        types.write_bytes(btf(next(Path(temp).glob("boot/vmlinuz-*")).read_bytes()))
        release = image.removeprefix("linux-image-")
        made = files(Kernel("aarch64", release, 4096, types))
    shutil.rmtree(TREE / "include", ignore_errors=True)
    for name, text in made.items():
        path = TREE / "include" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    print(f"{TREE.relative_to(TOP)}: {len(made)} files for {release}", file=sys.stderr)


if __name__ == "__main__":
    main()
