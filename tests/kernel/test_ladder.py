"""Which rung is taken, and every refusal with its reason: no traceback, nothing left attached.

In a virtual machine ``HATRACE_RUNGS`` says what must work there (``none`` under lockdown).
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from hatrace.capture.reader import read
from hatrace.errors import EnvironmentLacks
from hatrace.kernel import child, preflight
from hatrace.kernel.btf import maps_may_grow
from hatrace.kernel.maps import MapId, Sizes, fitting, sockets_here
from hatrace.kernel.order import Loaded, Order, load
from hatrace.kernel.probes import attach
from hatrace.kernel.rungs import LADDER, Rung
from hatrace.lab.stage import wait_until
from hatrace.model.capture_info import Scope, ScopeKind
from tests.kernel.cgroups import new_cgroup

pytestmark = pytest.mark.kernel

SOURCE = Path(__file__).parents[2] / "src"
ALL = Scope(ScopeKind.ALL)
RECVFROM = {"x86_64": "45", "aarch64": "207"}
"""recv(2), as the kernel numbers it."""

ATTACH = """
import sys
from hatrace.errors import HatraceError
from hatrace.kernel.probes import attach
from hatrace.model.capture_info import Scope, ScopeKind
wanted = sys.argv[1] if len(sys.argv) > 1 else None
try:
    probes = attach(Scope(ScopeKind.ALL), wanted)
except HatraceError as error:
    sys.exit(f"{error.what} | {error.why} | {error.do}")
print("netlink" if probes is None else probes.rung)
"""


def hatrace(code: str, *words: str, before: Sequence[str] = ()) -> tuple[int, str]:
    """Exit code and all output of a Python with hatrace, in whatever surroundings."""
    done = subprocess.run(
        [*before, sys.executable, "-c", code, *words],
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert "Traceback" not in done.stdout, done.stdout
    return done.returncode, done.stdout.strip()


def inside(script: str) -> tuple[str, ...]:
    """In a mount namespace of its own, prepared by a shell script."""
    return ("unshare", "-m", "sh", "-c", f'{script} && exec "$@"', "sh")


def with_only(capabilities: frozenset[str]) -> tuple[str, ...]:
    """As nobody, with these and no others."""
    names = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in sorted(capabilities))
    sets = f"-all,{names}" if names else "-all"
    return (
        "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
        "--inh-caps", sets, "--ambient-caps", sets,
    )  # fmt: skip


def working() -> list[str]:
    return [answer.rung for answer in preflight.ladder() if answer.works]


RUNGS = pytest.mark.parametrize("rung", LADDER, ids=lambda rung: rung.name)


def test_what_works_here() -> None:
    """On a machine that says what must: exactly that; elsewhere: more than netlink."""
    promised = os.environ.get("HATRACE_RUNGS", "")
    if promised:
        names = [] if promised == "none" else promised.split(",")
        assert working() == [*names, preflight.NETLINK]
    else:
        assert len(working()) > 1


def test_the_best_is_taken() -> None:
    assert hatrace(ATTACH) == (0, working()[0])


@RUNGS
def test_one_that_is_named_is_taken_or_refused_with_a_reason(rung: Rung) -> None:
    code, said = hatrace(ATTACH, rung.name)
    if rung.name in working():
        assert (code, said) == (0, rung.name)
    else:
        assert code == 1
        assert said.startswith(f"the `{rung.name}` rung cannot run here | ")
        assert len(said.split(" | ")[1]) > 10


@RUNGS
def test_one_that_is_named_and_its_blind_spots_reach_the_capture(
    rung: Rung, tmp_path: Path
) -> None:
    capture = tmp_path / "c.hatrace"
    words = ["record", "--rung", rung.name, "--all", "-d", "1s", "-o", str(capture)]
    code, said = hatrace("from hatrace.cli import main; main()", *words)
    if rung.name in working():
        info = read(capture).info
        assert code in (0, 1) and info.rung == rung.name
        assert set(rung.blind_spots) <= set(info.blind_spots)
    else:
        assert code == 3 and not capture.exists()
        assert said.startswith(f"hatrace: the `{rung.name}` rung cannot run here: ")
        assert "\n  do: " in said


def test_netlink_can_be_named() -> None:
    assert hatrace(ATTACH, "netlink") == (0, "netlink")


@RUNGS
def test_lockdown_gives_its_reason(rung: Rung) -> None:
    """Under ``confidentiality`` no program may read kernel memory: no rung of BPF works."""
    answer = preflight.ask(rung)
    if preflight.lockdown() == "confidentiality":
        too_old = rung.name == "kprobe" and not maps_may_grow()
        assert not answer.works and ("before 6.1" if too_old else "lockdown") in answer.why
    else:
        assert "lockdown" not in answer.why


def test_without_cgroup_v2() -> None:
    mounted = inside("umount -a -t cgroup2; ! grep -q cgroup2 /proc/mounts")
    code, said = hatrace(ATTACH, "cgroup", before=mounted)
    assert (code, said.split(" | ")[1]) == (1, "no cgroup v2 is mounted")
    assert "mount -t cgroup2" in said
    others = [name for name in working() if name != "cgroup"]
    assert hatrace(ATTACH, before=mounted) == (0, others[0])


@pytest.fixture
def part_of_cgroup_v2() -> Iterator[tuple[str, ...]]:
    """In a cgroup namespace, with nothing but its part of the tree mounted."""
    with new_cgroup("part") as folder:
        join = ("sh", "-c", f'echo 0 >{folder}/cgroup.procs && exec "$@"', "sh")
        mounts = "umount -a -t cgroup2; mount -t cgroup2 none /mnt"
        yield *join, "unshare", "-C", "-m", "sh", "-c", f'{mounts} && exec "$@"', "sh"


def test_with_a_containers_part_of_cgroup_v2(part_of_cgroup_v2: tuple[str, ...]) -> None:
    """Hooks there would see only what lies below it: refused, and not silently blind."""
    code, said = hatrace(ATTACH, "cgroup", before=part_of_cgroup_v2)
    assert code == 1 and "only a container's part of cgroup v2" in said and "--cgroupns" in said
    others = [name for name in working() if name != "cgroup"]
    assert hatrace(ATTACH, before=part_of_cgroup_v2) == (0, others[0])


OWN_PIDS = ("unshare", "-p", "--fork", "--mount-proc")
HOST_PIDS = ("unshare", "-n", "-m", "-i", "-u")


@RUNGS
def test_in_a_container_without_the_hosts_pids(rung: Rung) -> None:
    """BPF knows the host's pids only: refused, and the rung below tells those seen inside."""
    code, said = hatrace(ATTACH, rung.name, before=OWN_PIDS)
    assert code == 1 and "pid namespace" in said and "--pid=host" in said
    assert hatrace(ATTACH, before=OWN_PIDS) == (0, "netlink")


def test_in_a_container_with_the_hosts_pids() -> None:
    assert hatrace(ATTACH, before=HOST_PIDS) == (0, working()[0])


@RUNGS
def test_without_btf(rung: Rung) -> None:
    hidden = inside("mount -t tmpfs none /sys/kernel/btf")
    code, said = hatrace(ATTACH, rung.name, before=hidden)
    assert code == 1 and "BTF" in said
    assert hatrace(ATTACH, before=hidden) == (0, "netlink")


@RUNGS
def test_without_any_capability(rung: Rung) -> None:
    code, said = hatrace(ATTACH, rung.name, before=with_only(frozenset()))
    missing = ", ".join(sorted(preflight.needed(rung)))
    assert code == 1 and f"this process lacks {missing}" in said


@RUNGS
def test_with_just_the_capabilities_it_names(rung: Rung) -> None:
    """Enough where the rung works at all; else the same reason as root is told."""
    code, said = hatrace(ATTACH, rung.name, before=with_only(preflight.needed(rung)))
    answer = preflight.ask(rung)
    if answer.works:
        assert (code, said) == (0, rung.name)
    else:
        assert (code, said.split(" | ")[1]) == (1, answer.why)


@RUNGS
def test_one_capability_less_is_refused(rung: Rung) -> None:
    needed = preflight.needed(rung)
    for name in needed:
        code, said = hatrace(ATTACH, rung.name, before=with_only(needed - {name}))
        assert code == 1 and f"this process lacks {name}" in said


KILL = """
import os, signal
from pathlib import Path
for entry in Path("/proc/self/fdinfo").iterdir():
    try:
        lines = entry.read_text().splitlines()
    except OSError:
        continue
    for line in lines:
        if line.startswith(("map_id:", "prog_id:", "link_id:")):
            print(line.replace("_id:", ""), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def exists(kind: str, number: str) -> bool:
    """Whether the kernel has such a program, map or link."""
    words = ["bpftool", kind, "show", "id", number]
    return subprocess.run(words, capture_output=True).returncode == 0


@RUNGS
def test_nothing_is_left_after_kill_9(rung: Rung) -> None:
    """Programs and maps go with the process that holds their fds."""
    if rung.name not in working():
        with pytest.raises(EnvironmentLacks):
            attach(ALL, rung.name)
        return
    code, said = hatrace(ATTACH + KILL, rung.name)
    name, *lines = said.splitlines()
    assert (code, name) == (-9, rung.name)
    held = {tuple(line.split()) for line in lines}
    assert {kind for kind, _ in held} >= {"map", "prog"}
    assert wait_until(lambda: not any(exists(kind, number) for kind, number in held))


def told(pid: int | str, fd: int | str, name: str) -> int | None:
    """What /proc says of a BPF object's fd; None: nothing, or it has been closed."""
    try:
        text = Path(f"/proc/{pid}/fdinfo/{fd}").read_text()
    except FileNotFoundError:
        return None
    found = re.search(rf"^{name}:\s+(\d+)", text, re.M)
    return int(found[1]) if found else None


def all_told(pid: int, name: str) -> set[int]:
    fds = [entry.name for entry in Path(f"/proc/{pid}/fdinfo").iterdir()]
    return {value for fd in fds if (value := told(pid, fd, name)) is not None}


def waits_for_its_order(pid: int) -> bool:
    """Whether it has made what it can, and reads from the socket (proc_pid_syscall(5))."""
    number = Path(f"/proc/{pid}/syscall").read_text().split()[0]
    return number == RECVFROM.get(platform.machine()) and bool(all_told(pid, "prog_id"))


def loaded_by(order: Order) -> Loaded:
    loaded = load(order)
    assert loaded is not None
    return loaded


@pytest.mark.parametrize("sizes", [None, Sizes(targets=32)], ids=["as expected", "otherwise"])
def test_what_is_ready_before_the_order_is_not_attached(sizes: Sizes | None) -> None:
    """It is taken as it is; where another order comes, that is carried out."""
    child.start_ahead(None)
    if not working()[:-1]:
        assert load(Order(None, sizes)) is None
        return
    [ahead] = child._ready
    assert wait_until(lambda: waits_for_its_order(ahead.process.pid), 120)
    assert not all_told(ahead.process.pid, "link_id")
    ready = all_told(ahead.process.pid, "prog_id")
    with closing(loaded_by(Order(None, sizes))) as loaded:
        assert not child._ready, "it is the one that was started"
        assert loaded.links and loaded.sizes == (sizes or fitting(sockets_here()))
        entries = told("self", loaded.maps[MapId.TARGET_TOTALS], "max_entries")
        assert entries == loaded.sizes.targets
        programs = {told("self", fd, "prog_id") for fd in loaded.programs.values()}
        assert programs <= ready if sizes is None else programs.isdisjoint(ready)


def test_the_last_words_of_a_loader_that_dies_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it prepares, nobody has read the order yet."""
    code = "import sys; sys.exit('LLVM ERROR: out of memory')"
    popen = subprocess.Popen
    monkeypatch.setattr(
        child.subprocess, "Popen", lambda _, **more: popen([sys.executable, "-c", code], **more)
    )
    with pytest.raises(EnvironmentLacks, match="LLVM ERROR: out of memory"):
        load(Order(None))
