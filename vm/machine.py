"""One run of one guest: QEMU with software emulation, started, watched and ended here."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from vm import guest, images
from vm.kernels import Kernel, Userland

TIME_LIMIT, DIED = 124, 125
"""Exit codes of a run that did not come to its end."""

_SKIP = {".git", "__pycache__", ".venv", "build", "dist"}
_OUT_BYTES = 512 << 20


@dataclass(frozen=True, slots=True)
class Order:
    """What to run, and where."""

    kernel: Kernel
    command: str
    """A shell line, run as root in the shared folder."""
    userland: Userland | None = None
    """None: the kernel's own."""
    share: Path | None = images.TOP
    """Copied in, to the same path."""
    out: Path | None = None
    """Receives the guest's /out."""
    limit_s: float = 600.0
    memory: str = "1G"
    cpus: int = 1
    append: str = ""
    """More kernel parameters."""
    capture: bool = False
    """Keep the output in the result, instead of showing it as it comes."""


@dataclass(frozen=True, slots=True)
class Result:
    """How it ended."""

    code: int
    """The command's exit code, `TIME_LIMIT` or `DIED`."""
    seconds: float
    release: str
    output: str = ""
    console: str = ""


def run(order: Order) -> Result:
    """Boot, run the command, and wait for its end; the guest never outlives this call."""
    kernel = images.kernel_folder(order.kernel)
    root = images.root_image(order.userland or order.kernel.userland)
    with tempfile.TemporaryDirectory(prefix="hatrace-vm-", dir="/var/tmp") as name:
        folder = Path(name)
        words = _qemu(order, kernel, root, folder)
        began = time.monotonic()
        sys.stdout.flush()
        _wait(words, order.limit_s, folder / "output" if order.capture else None)
        seconds = time.monotonic() - began
        console = (folder / "console").read_text(errors="replace")
        answer = (folder / "status").read_text().strip()
        if order.out and answer:
            _unpack(folder / "out", order.out)
        output = (folder / "output").read_text(errors="replace") if order.capture else ""
    late = TIME_LIMIT if seconds >= order.limit_s else DIED
    code = int(answer) if answer else late
    return Result(code, seconds, (kernel / "release").read_text(), output, console)


def _wait(words: list[str | Path], limit_s: float, output: Path | None) -> None:
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(output.open("wb")) if output else None  # None: our own
        machine = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=sink)
        _running.add(machine)
        try:
            machine.wait(limit_s)
        except subprocess.TimeoutExpired:
            images.say(f"the time limit of {limit_s:g} s is reached")
        finally:
            machine.kill()
            machine.wait()
            _running.discard(machine)


_running: set[subprocess.Popen[bytes]] = set()


def end_all() -> None:
    """End the guests of other threads, whose calls then return as if the guest had died."""
    for machine in tuple(_running):
        machine.kill()


def _qemu(order: Order, kernel: Path, root: Path, folder: Path) -> list[str | Path]:
    """The command line; what it names is made in ``folder``."""
    share = order.share.resolve() if order.share else None
    initrd = folder / "initrd"
    machine = order.kernel.machine
    initrd.write_bytes(guest.initramfs(kernel, machine, share or Path("/root"), order.command))
    words: list[str | Path] = [
        *machine.qemu, "-accel", "tcg,thread=multi,tb-size=256",
        "-smp", str(order.cpus), "-m", order.memory,
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-serial", f"file:{folder / 'console'}",
        *(word.format(status=folder / "status") for word in machine.serial),
        "-kernel", kernel / "vmlinuz", "-initrd", initrd,
        "-append", f"{machine.parameters} {guest.COMMAND_LINE} {order.append}".strip(),
        *_disk(root, "snapshot=on"),
    ]  # fmt: skip
    if share or order.out:
        _pack(share, folder / "share")
        words += _disk(folder / "share", "readonly=on")
    if order.out:
        with (folder / "out").open("wb") as out:
            out.truncate(_OUT_BYTES)
        words += _disk(folder / "out", "cache=unsafe")
    return words


def _disk(path: Path, more: str) -> list[str]:
    return ["-drive", f"file={path},format=raw,if=virtio,{more}"]


def _pack(folder: Path | None, target: Path) -> None:
    """A tar of a folder without what a guest has no use for; with none, an empty one."""

    def keep(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        name = Path(info.name).name
        return None if name in _SKIP or name.endswith("_cache") else info

    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as tar:
        if folder:
            tar.add(folder, ".", filter=keep)


def _unpack(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    # Python 3.11 has the filter from 3.11.4 on only, and Debian 12 has 3.11.2; tar knows better.
    subprocess.run(["tar", "-xf", source, "-C", target], check=True)
