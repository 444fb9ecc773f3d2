"""hatrace without root: with a rung's own capabilities only, and what each further one adds.

The HAProxy is root's, with a configuration file and a command-line socket of mode 600.
docs/privileges.md has the table, `hatrace doctor` the sentences.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatrace.capture.reader import read
from hatrace.commands.doctor import WITHOUT
from hatrace.kernel import preflight
from hatrace.kernel.rungs import LADDER, Rung
from tests.kernel.boxed import Boxed, boxed
from tests.kernel.running import Ended, Hatrace, run
from tests.kernel.test_ladder import with_only


def free_ports() -> tuple[int, int]:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        return one.getsockname()[1], two.getsockname()[1]


@pytest.fixture(scope="module")
def haproxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boxed]:
    with boxed(tmp_path_factory.mktemp("privileges"), ports=free_ports()) as box:
        yield box


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Boxed]:
    """In a network namespace of its own."""
    with boxed(tmp_path, ["unshare", "-n"], "ip link set lo up") as box:
        yield box


@pytest.fixture
def best() -> Rung:
    return next(rung for rung in LADDER if preflight.ask(rung).works)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where nobody may write."""
    for each in (tmp_path.parent.parent, tmp_path.parent, tmp_path):
        each.chmod(0o755)
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    return open_to_all


def recorded(haproxy: Boxed, folder: Path, held: frozenset[str], *words: str) -> Ended:
    command = ["record", "--json", "-d", "3s", "--force", "-o", str(folder / "x"), *words]
    cache = {"XDG_CACHE_HOME": str(folder)}
    with Hatrace(*command, before=with_only(held), environment=cache) as hatrace:
        hatrace.started()
        haproxy.request()
        ended = hatrace.end()
    assert ended.errors == ""
    return ended


def owners(box: Boxed, folder: Path) -> set[int]:
    """The pids which the capture gives for the sockets of the frontend's port."""
    rows = [json.loads(line) for line in run("export", str(folder / "x")).out.splitlines()]
    return {row["pid"] for row in rows if row["laddr"] == f"127.0.0.1:{box.front}"}


def advice(ended: Ended, box: Boxed) -> set[str]:
    """What to do, of the troubles with this HAProxy that a capability ends."""
    ours = {f"pid {box.master}", f"pid {box.worker}"}
    troubles = (each for each in ended.troubles if each["subject"].split(":")[0] in ours)
    return {each["do"] for each in troubles if "CAP_" in each["do"]}


FILES = "run hatrace as root (CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH) on the same host"
SOCKETS = "run hatrace as root (CAP_DAC_OVERRIDE)"
STEPS = {
    "its own only": ([], None),
    "CAP_SYS_PTRACE": (["CAP_SYS_PTRACE"], {FILES, SOCKETS}),
    "CAP_DAC_READ_SEARCH": (["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"], {SOCKETS}),
    "CAP_DAC_OVERRIDE": (["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"], set()),
}
"""What is granted beside the rung's own, and what is then still missing; None: see the test."""


@pytest.mark.parametrize("step", STEPS)
def test_each_capability_opens_what_it_says(
    step: str, best: Rung, haproxy: Boxed, folder: Path
) -> None:
    more, missing = STEPS[step]
    held = preflight.needed(best) | set(more)
    ended = recorded(haproxy, folder, held, "--comm", "haproxy")
    info = read(folder / "x").info
    assert info.rung == best.name
    assert owners(haproxy, folder) == {haproxy.worker}
    told = advice(ended, haproxy)
    if missing is None:
        assert FILES in told and not info.haproxy_versions
    else:
        assert told == missing and info.haproxy_versions, ended.troubles


def test_without_any_capability(haproxy: Boxed, folder: Path) -> None:
    """It runs, samples nothing of others, and says so with the capability to grant."""
    ended = recorded(haproxy, folder, frozenset(), "--comm", "haproxy")
    assert read(folder / "x").info.rung == preflight.NETLINK
    reasons = {each["source"]: each for each in ended.troubles}
    assert "this process lacks CAP_BPF" in reasons["kernel"]["why"]
    assert "CAP_SYS_PTRACE" in reasons["proc"]["do"]


@pytest.mark.parametrize(
    ("names", "told"),
    [("CAP_SYS_PTRACE", False), ("CAP_DAC_READ_SEARCH", False),
     ("CAP_SYS_PTRACE CAP_DAC_READ_SEARCH", True)],
)  # fmt: skip
def test_owners_by_netlink_take_both(names: str, told: bool, haproxy: Boxed, folder: Path) -> None:
    held = frozenset(names.split())
    words = ["--pid", str(haproxy.master), "--rung", "netlink"]
    ended = recorded(haproxy, folder, held, *words)
    assert owners(haproxy, folder) == ({haproxy.worker} if told else set())
    assert any("CAP_DAC_READ_SEARCH" in each["do"] for each in ended.troubles) != told


def test_other_networks_by_netlink_take_admin(elsewhere: Boxed, folder: Path) -> None:
    held = frozenset({"CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"})
    words = ["--pid", str(elsewhere.master), "--rung", "netlink"]
    ended = recorded(elsewhere, folder, held, *words)
    assert any("CAP_SYS_ADMIN" in each["do"] for each in ended.troubles)
    assert owners(elsewhere, folder) == set()
    ended = recorded(elsewhere, folder, held | {"CAP_SYS_ADMIN"}, *words)
    assert not any("CAP_SYS_ADMIN" in each["do"] for each in ended.troubles)
    assert owners(elsewhere, folder) == {elsewhere.worker}


def test_the_doctor_tells_what_is_missing(best: Rung) -> None:
    needed = preflight.needed(best)
    said = run("doctor", "--json", before=with_only(needed))
    lines = json.loads(said.out)
    [taken] = [line for line in lines if "this one is taken" in line["text"]]
    assert taken["subject"] == f"rung {best.name}"
    assert taken["text"].endswith(f"without root it needs {', '.join(sorted(needed))}")
    texts = [line["text"] for line in lines]
    for name, text in WITHOUT.items():
        assert (f"without {name} {text}" in texts) == (name not in needed)
