"""What runs inside: the initramfs, which loads modules and finds the root, and the first process.

/dev/vda  root image; what is written is thrown away (QEMU's snapshot)
/dev/vdb  the shared folder, a tar
/dev/vdc  the guest's /out, a tar
Serial ports: the kernel's console, the command's output ($OUTPUT), its exit code ($STATUS).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from vm.kernels import Machine

INIT = """#!/bin/busybox sh
PATH=/bin; /bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
for m in $(cat /modules); do insmod /$m || echo "hatrace vm: insmod $m failed"; done
mount -t ext4 /dev/vda /root || poweroff -f
mount -t tmpfs tmpfs /root/run
cp /stage2 /command /bin/busybox /root/run/
mount --move /dev /root/dev
exec switch_root /root /run/stage2
"""

STAGE2 = """#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LANG=C.UTF-8 TERM=dumb PYTHONDONTWRITEBYTECODE=1 HATRACE_VM=1
m() { mkdir -p "$3"; mount -t "$1" "$2" "$3" 2>/dev/null; }
m proc proc /proc; m sysfs sysfs /sys; m tmpfs tmpfs /tmp; m tmpfs shm /dev/shm
m devpts devpts /dev/pts; m tracefs tracefs /sys/kernel/tracing
m debugfs debugfs /sys/kernel/debug; m bpf bpf /sys/fs/bpf
m securityfs securityfs /sys/kernel/security; m cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /out "$SHARE"; hostname hatrace-vm; ip link set lo up
[ -b /dev/vdb ] && tar -xf /dev/vdb -C "$SHARE"
cd "$SHARE"
/run/busybox stty -F /dev/$OUTPUT raw -echo
/run/busybox stty -F /dev/$STATUS raw -echo
setsid sh /run/command </dev/null >/dev/$OUTPUT 2>&1
rc=$?
[ -b /dev/vdc ] && tar -cf /dev/vdc -C /out .
echo $rc >/dev/$STATUS
/run/busybox stty -F /dev/$OUTPUT sane    # waits until its output has drained
exec /run/busybox poweroff -f
"""

COMMAND_LINE = "quiet loglevel=4 panic=-1 mitigations=off random.trust_cpu=on cryptomgr.notests"


def initramfs(kernel: Path, machine: Machine, share: Path, command: str) -> bytes:
    """For a kernel folder (``images.kernel_folder``); ``share`` is where the guest's tar goes."""
    head = f"#!/bin/sh\nSHARE={shlex.quote(str(share))}\n"
    head += f"OUTPUT={machine.output} STATUS={machine.status}\n"
    program, data = 0o100755, 0o100644
    members = [(name, 0o040755, b"") for name in ("bin", "dev", "root")]
    members += [
        ("bin/busybox", program, (kernel / "busybox").read_bytes()),
        ("init", program, INIT.encode()),
        ("stage2", program, (head + STAGE2).encode()),
        ("command", program, command.encode() + b"\n"),
        ("modules", data, (kernel / "modules").read_bytes()),
    ]
    members += [(file.name, data, file.read_bytes()) for file in sorted(kernel.glob("*.ko"))]
    return cpio(members)


def cpio(members: Iterable[tuple[str, int, bytes]]) -> bytes:
    """An archive of (name, mode, data) in the kernel's "newc" form (cpio(5))."""
    out = bytearray()
    for number, (name, mode, data) in enumerate([*members, ("TRAILER!!!", 0, b"")]):
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        head = "070701" + "".join(f"{field:08x}" for field in fields) + name + "\0"
        out += _padded(head.encode()) + _padded(data)
    return bytes(out)


def _padded(part: bytes) -> bytes:
    return part + bytes(-len(part) % 4)
