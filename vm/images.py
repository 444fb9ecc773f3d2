"""Kernels and root images, made from Debian's packages, kept, and made again when inputs change.

~/.cache/hatrace/vm/kernel/bookworm-amd64/{vmlinuz,modules,release,busybox,*.ko}
~/.cache/hatrace/vm/root/bookworm-3f0c2f6e.ext4     the number: a hash of its inputs
"""

from __future__ import annotations

import hashlib
import inspect
import lzma
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from hatrace.errors import EnvironmentLacks
from hatrace.lab.apt import Apt, locked, mirror, run
from vm.kernels import AMD64, Kernel, Machine, Userland

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hatrace/vm"
TOP = Path(__file__).resolve().parent.parent
FLAVOUR = "cloud"
"""Small, and with everything that a machine in QEMU needs."""

MODULES = (
    "virtio_pci", "virtio_blk", "unix_diag", "tcp_diag", "udp_diag", "inet_diag", "veth",
)  # fmt: skip
PACKAGES = (
    "python3", "python3-bpfcc", "haproxy", "iproute2", "kmod", "procps", "strace", "bpftool",
    "gcc", "libc6-dev", "mount", "util-linux", "libbpf-tools",
)  # fmt: skip
ESSENTIAL = (
    "base-files", "base-passwd", "bash", "coreutils", "dash", "dpkg", "findutils", "grep",
    "hostname", "libc-bin", "mawk", "sed", "tar",
)  # fmt: skip
"""What an image always has: it is not always said that a package needs it."""
BUSYBOX = "busybox-static"
REQUIREMENTS = ("scripts/requirements.txt", "scripts/requirements-test.txt")
NOT_IN_GUESTS = ("mypy", "ruff", "librt", "ast_serialize", "hatchling")
"""Of the requirements: what only a developer's machine runs."""


def say(text: str) -> None:
    print(f"hatrace vm: {text}", file=sys.stderr, flush=True)


def kernel_folder(kernel: Kernel, again: bool = False) -> Path:
    """``vmlinuz``, busybox, and the modules for a guest, in the order of loading (``modules``)."""
    architecture = kernel.machine.architecture
    folder = CACHE / "kernel" / f"{kernel.suite}-{architecture}"
    key = _hash(repr((FLAVOUR, MODULES, BUSYBOX)))
    with locked(CACHE):
        if again or _text(folder / "inputs") != key:
            say(f"fetching the kernel of {kernel.suite} for {architecture}")
            _fetch_kernel(Apt(kernel.suite, CACHE, architecture=architecture), folder, key)
    return folder


def _fetch_kernel(apt: Apt, folder: Path, key: str) -> None:
    apt("apt-get", "-q", "update")
    name = f"linux-image-{FLAVOUR}-{apt.architecture}"
    image = next(p for p in depends(apt, name) if "-image-" in p)
    release = image.removeprefix("linux-image-")
    # From 7.2 on the image is split: linux-binary-*, linux-modules-*.
    wanted = [image, *(p for p in depends(apt, image) if release in p), BUSYBOX]
    with tempfile.TemporaryDirectory(dir=CACHE) as temp:
        unpacked, new = Path(temp, "unpacked"), Path(temp, "new")
        new.mkdir()
        apt.unpack(wanted, unpacked)
        tree = next(unpacked.glob(f"**/modules/{release}"))
        (new / "modules").write_text("".join(f"{name}\n" for name in _modules(tree, new)))
        (new / "release").write_text(release)
        (new / "inputs").write_text(key)
        images = (file for file in unpacked.glob("**/vmlinuz*") if file.stat().st_size > 1 << 20)
        shutil.move(next(images), new / "vmlinuz")
        shutil.move(next(unpacked.glob("**/bin/busybox")), new / "busybox")
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(exist_ok=True)
        new.rename(folder)


def depends(apt: Apt, package: str) -> list[str]:
    """The packages of a kernel that a package of a kernel needs."""
    return re.findall(r"Depends: (linux-\S+)", apt("apt-cache", "depends", package))


def _modules(tree: Path, target: Path) -> list[str]:
    """Copy the modules and what they depend on, unpacked; their file names, dependencies first."""
    found = {f.name.split(".")[0].replace("-", "_"): f for f in tree.glob("kernel/**/*.ko*")}
    order: list[str] = []

    def add(name: str) -> None:
        file = f"{name}.ko"
        if file in order or name not in found:  # absent: built in
            return
        data = found[name].read_bytes()
        data = lzma.decompress(data) if found[name].suffix == ".xz" else data
        depends = re.search(rb"\0depends=([^\0]*)\0", data)
        for other in depends[1].decode().split(",") if depends else ():
            add(other.replace("-", "_"))
        order.append(file)
        (target / file).write_bytes(data)

    for name in MODULES:
        add(name)
    return order


def root_image(userland: Userland, again: bool = False) -> Path:
    """The ext4 image of a userland, with hatrace's Python packages for its python3."""
    image = CACHE / "root" / f"{userland.name}-{_root_key(userland)}.ext4"
    with locked(CACHE):
        if again or not image.exists():
            say(f"making the root image of {userland.name}: half a minute")
            image.parent.mkdir(parents=True, exist_ok=True)
            build = _build_root if userland.machine == AMD64 else _unpack_root
            build(userland, image)
            for old in image.parent.glob(f"{userland.name}-????????.ext4"):
                if old != image:
                    old.unlink()
    return image


def _root_key(userland: Userland) -> str:
    requirements = "".join((TOP / name).read_text() for name in REQUIREMENTS)
    recipe = inspect.getsource(_build_root) + inspect.getsource(_unpack_root)
    return _hash(repr((userland, PACKAGES, NOT_IN_GUESTS, requirements, recipe)))


def _build_root(userland: Userland, image: Path) -> None:
    """mmdebstrap in a user namespace, then mke2fs within it: no mount or chroot outside."""
    # Its ids need a folder that is open to all.
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="hatrace-vm-") as temp:
        Path(temp).chmod(0o777)
        made, wheels = Path(temp, "root.ext4"), Path(temp, "packages")
        _python_packages(userland, wheels)
        library = f"usr/local/lib/python{userland.python}/dist-packages"
        # The bind mount shows the tree without the /proc and /sys within it.
        size = '"$(( $(du -sm "$1/mnt" | cut -f1) * 5 / 4 + 256 ))"M'
        hooks = [
            f'mkdir -p "$1/{library}" && cp -r {wheels}/. "$1/{library}/"',
            'rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/archives/*.deb',
            f'mount --bind "$1" "$1/mnt" && mke2fs -q -F -t ext4 -O ^has_journal -m 0 '
            f'-d "$1/mnt" {made} {size} && umount "$1/mnt"',
        ]
        run("mmdebstrap", "--quiet", "--mode=unshare", "--variant=minbase", "--format=null",
            f"--include={','.join(_packages(userland))}",
            '--aptopt=Acquire::Languages "none"', '--aptopt=Acquire::Check-Valid-Until "false"',
            *(f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in ("doc", "man", "locale")),
            *(f"--customize-hook={hook}" for hook in hooks),
            userland.suite, "/dev/null", *_sources(userland))  # fmt: skip
        new = image.with_suffix(".new")
        run("cp", "--sparse=always", made, new)
    new.rename(image)


def _unpack_root(userland: Userland, image: Path) -> None:
    """Of another architecture: nothing of it can run here, so no maintainer script does.  What
    those would have made and a guest needs, is made here."""
    apt = Apt(userland.suite, CACHE, architecture=userland.machine.architecture)
    apt("apt-get", "-q", "update")
    wanted = (*_packages(userland), *ESSENTIAL)
    uris = apt("apt-get", "install", "--print-uris", "-qq", "--no-install-recommends", *wanted)
    names = {line.split()[1].split("_")[0] for line in uris.splitlines() if line.startswith("'")}
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="hatrace-vm-") as temp:
        root, made = Path(temp, "root"), Path(temp, "root.ext4")
        for name in ("bin", "sbin", "lib"):
            (root / "usr" / name).mkdir(parents=True)
            (root / name).symlink_to(f"usr/{name}")
        apt.unpack(sorted(names), root)
        for name in ("proc", "sys", "dev", "run", "tmp", "mnt", "root"):
            (root / name).mkdir(exist_ok=True)
        for name in ("passwd", "group"):
            shutil.copy(root / f"usr/share/base-passwd/{name}.master", root / "etc" / name)
        _python_packages(userland, root / f"usr/local/lib/python{userland.python}/dist-packages")
        size = int(run("du", "-sm", root).split()[0]) * 5 // 4 + 256
        run("mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", root,
            made, f"{size}M")  # fmt: skip
        new = image.with_suffix(".new")
        run("cp", "--sparse=always", made, new)
    new.rename(image)


def _packages(userland: Userland) -> Iterator[str]:
    for package in PACKAGES:
        elsewhere = package == "haproxy" and userland.haproxy_suite
        yield f"{package}/{userland.haproxy_suite}" if elsewhere else package


def _sources(userland: Userland) -> list[str]:
    suites = filter(None, (userland.suite, userland.haproxy_suite))
    return [f"{mirror()} {suite} main" for suite in suites]


def _python_packages(userland: Userland, target: Path) -> None:
    """The pinned requirements as wheels for the guest's python, unpacked to ``target``."""
    lines = [line for name in REQUIREMENTS for line in (TOP / name).read_text().splitlines()]
    wanted = [line for line in lines if "==" in line and line.split("==")[0] not in NOT_IN_GUESTS]
    machine = userland.machine.uname
    tags = (f"manylinux{tag}_{machine}" for tag in ("2014", "_2_17", "_2_28"))
    platforms = [word for tag in tags for word in ("--platform", tag)]
    run(sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet",
        "--no-input", "--target", target, "--python-version", userland.python, *platforms,
        "--only-binary=:all:", "--no-deps", *wanted)  # fmt: skip


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


NEEDED = {
    "mmdebstrap": "mmdebstrap",
    "newuidmap": "uidmap",
    "mke2fs": "e2fsprogs",
}
QEMU = {"qemu-system-x86_64": "qemu-system-x86", "qemu-system-aarch64": "qemu-system-arm"}


def demand_tools(machines: Iterable[Machine] = (AMD64,)) -> None:
    """Raises EnvironmentLacks where this host has no QEMU or cannot build an image."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    needed = NEEDED | {machine.qemu[0]: QEMU[machine.qemu[0]] for machine in machines}
    missing = sorted(
        package for tool, package in needed.items() if not shutil.which(tool, path=path)
    )
    if missing:
        raise EnvironmentLacks(
            "no virtual machine can be made here",
            f"missing: {', '.join(missing)}",
            f"apt-get install --no-install-recommends {' '.join(missing)}",
        )
