"""What a user meets where something is missing: what, why, what to do; never a traceback.

The lack is made for real: another user, fewer capabilities, a mount namespace in which BTF,
cgroup v2 or bcc is hidden, a disk that is full.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatrace.kernel.preflight import cgroup_mount
from hatrace.lab.scenario import Running
from hatrace.lab.scenarios import SCENARIOS
from hatrace.lab.stage import Stage, wait_until
from tests.kernel.running import SOURCE, Ended, Hatrace, run

NO_BPF = ["setpriv", "--bounding-set", "-sys_admin,-bpf,-perfmon"]
NO_OVERRIDE = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
NO_PROCESS = ["unshare", "--pid", "--fork", "--mount-proc"]
"""A pid namespace in which nothing else runs."""


def hiding(*commands: str) -> list[str]:
    """Run what follows in a mount namespace of its own, after these shell commands."""
    return ["unshare", "--mount", "sh", "-ec", "; ".join([*commands, 'exec "$@"']), "sh"]


@pytest.fixture(scope="module")
def nobody() -> list[str]:
    """Run what follows as another user; with the right to search if hatrace lies in a closed
    folder, which opens neither sockets nor other processes."""
    words = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    trial = subprocess.run(
        [*words, sys.executable, "-c", "import hatrace, click"],
        env={"PYTHONPATH": SOURCE, "PATH": os.environ["PATH"]}, capture_output=True,
    )  # fmt: skip
    search = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
    return [*words, *search] if trial.returncode else words


@pytest.fixture(scope="module")
def leaking() -> Iterator[Running]:
    with Stage() as stage:
        yield SCENARIOS["check-leak"].play(stage, None)


@pytest.fixture
def scope(leaking: Running) -> list[str]:
    return ["--pid", str(leaking.haproxy.pid)]


def explained(ended: Ended, code: int, *words: str) -> None:
    """One line that says what and why, one what to do."""
    assert ended.code == code, ended
    lines = ended.errors.splitlines()
    assert len(lines) in (1, 2), ended.errors
    assert lines[0].startswith("hatrace: ")
    assert all(line.startswith("  do: ") for line in lines[1:])
    assert [word for word in words if word not in ended.errors] == []


def still_watches(ended: Ended, *words: str) -> None:
    """It went on without BPF, and said why."""
    assert ended.errors == ""
    assert ended.rows[0]["info"]["rung"] == "netlink"
    [said] = [each for each in ended.troubles if each["source"] == "kernel"]
    text = f"{said['why']} {said['do']}"
    assert [word for word in words if word not in text] == []


def test_another_user(nobody: list[str], scope: list[str]) -> None:
    still_watches(run("live", *scope, "-d", "2s", "--json", before=nobody), "CAP_BPF", "sudo")
    named = run("live", *scope, "--rung", "cgroup", before=nobody)
    explained(named, 3, "cgroup", "CAP_BPF", "sudo")


def test_another_user_asks_the_doctor(nobody: list[str]) -> None:
    ended = run("doctor", "--json", before=nobody)
    assert (ended.code, ended.errors) == (0, "")
    lines = {line["subject"]: line for line in json.loads(ended.out)}
    assert "uid 65534" in lines["privileges"]["text"]
    assert "CAP_BPF" in lines["rung cgroup"]["text"]
    assert "this one is taken" in lines["rung netlink"]["text"]


def test_another_user_and_every_process(nobody: list[str]) -> None:
    ended = run("live", "--all", "-d", "2s", "--json", before=nobody)
    assert (ended.code in (0, 1), ended.errors) == (True, "")
    unreadable = [each for each in ended.troubles if each["source"] == "proc"]
    assert len(unreadable) == 1, "many processes, one trouble"
    assert "processes cannot be read" in unreadable[0]["why"]


def test_a_user_without_a_home(nobody: list[str]) -> None:
    lost = [word.replace("65534", "54321") for word in nobody]
    for words in (["doctor"], ["lab", "--list"], ["explain"]):
        ended = run(*words, before=[*lost, "env", "-u", "HOME"])
        assert (ended.code, ended.errors) == (0, "")


def test_missing_capabilities(scope: list[str]) -> None:
    still_watches(run("live", *scope, "-d", "2s", "--json", before=NO_BPF), "CAP_BPF")
    explained(run("live", *scope, "--rung", "cgroup", before=NO_BPF), 3, "CAP_BPF", "sudo")


@pytest.mark.parametrize("how", ["mount --bind /dev/null", "mount -t tmpfs none"])
def test_no_btf(how: str, scope: list[str]) -> None:
    target = "/sys/kernel/btf" + ("/vmlinux" if "bind" in how else "")
    before = hiding(f"{how} {target}")
    still_watches(run("live", *scope, "-d", "2s", "--json", before=before), "BTF")
    explained(run("live", *scope, "--rung", "cgroup", before=before), 3, "no BTF")
    assert "BTF" in run("doctor", before=before).out


def test_no_cgroup_v2(scope: list[str]) -> None:
    before = hiding(f"umount -l {cgroup_mount()}")
    still_watches(run("live", *scope, "-d", "2s", "--json", before=before), "cgroup v2", "mount")
    explained(run("live", *scope, "--rung", "cgroup", before=before), 3, "cgroup v2", "mount -t")
    explained(run("live", "--cgroup", "/", before=before), 3, "cgroup v2", "mount -t")


def test_no_bcc_and_nothing_compiled_yet(scope: list[str], tmp_path: Path) -> None:
    import bcc

    before = hiding(f"mount -t tmpfs none {Path(bcc.__file__).parent.parent}")
    empty = {"XDG_CACHE_HOME": str(tmp_path)}
    ended = run("live", *scope, "-d", "2s", "--json", before=before, environment=empty)
    still_watches(ended, "bcc is not installed", "apt-get install python3-bpfcc")
    ended = run("live", *scope, "--rung", "cgroup", before=before, environment=empty)
    explained(ended, 3, "bcc is not installed", "apt-get install python3-bpfcc")


def test_a_cache_that_cannot_be_written(scope: list[str]) -> None:
    environment = {"XDG_CACHE_HOME": "/proc/1"}
    ended = run("live", *scope, "-d", "1s", "--json", environment=environment)
    assert (ended.rows[0]["info"]["rung"], ended.errors) == ("cgroup", "")


def test_rungs_that_this_kernel_refuses(scope: list[str]) -> None:
    works = json.loads(run("doctor", "--json").out)
    for line in works:
        if line["subject"].startswith("rung ") and line["says"] != "ok":
            name = line["subject"].removeprefix("rung ")
            explained(run("live", *scope, "--rung", name), 3, f"`{name}`", "do:")


@pytest.mark.parametrize("words", [["live"], ["record"], ["live", "--json"]])
def test_no_haproxy(words: list[str], tmp_path: Path) -> None:
    before = [*NO_PROCESS, "sh", "-c", f'cd {tmp_path}; exec "$@"', "sh"]
    explained(run(*words, before=before), 3, "no HAProxy runs", "--comm NAME")
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_is_not_there() -> None:
    explained(run("live", "--pid", str(2**22 - 1)), 3, "no such process")
    explained(run("live", "--comm", "no-such-name"), 3, "no such process")


@pytest.mark.parametrize("folder", ["/nosuch", "/tmp", "/sys/fs"])
def test_what_is_no_cgroup(folder: str) -> None:
    explained(run("live", "--cgroup", folder), 2, folder, "cgroup")


def test_two_scopes() -> None:
    explained(run("live", "--all", "--pid", "1"), 2, "--all", "--pid")


def test_a_socket_without_permission(leaking: Running, scope: list[str]) -> None:
    """What the kernel shows is still judged; that HAProxy cannot be asked is said, with advice."""
    master = leaking.haproxy.master
    assert master is not None
    for path in (leaking.haproxy.stats, master):
        path.chmod(0)
    try:
        ended = run("live", *scope, "-d", "4s", "--json", before=NO_OVERRIDE)
    finally:
        for path in (leaking.haproxy.stats, master):
            path.chmod(0o600)
    assert ended.errors == ""
    refused = [each for each in ended.troubles if each["source"] == "runtime-api"]
    assert refused
    assert all("permission" in each["why"] and each["do"] for each in refused)
    assert ended.slugs == {"check-leak"}


def test_a_folder_that_cannot_be_written(scope: list[str]) -> None:
    explained(run("record", *scope, "-o", "/nosuch/x.hatrace"), 3, "/nosuch/x.hatrace")
    explained(run("record", *scope, "-o", "/proc/x.hatrace"), 3, "/proc/x.hatrace")


def test_a_folder_of_somebody_else(tmp_path: Path, nobody: list[str], scope: list[str]) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    tmp_path.parent.chmod(0o755)
    tmp_path.chmod(0o755)
    ended = run("record", *scope, "-o", f"{closed}/x", before=nobody)
    explained(ended, 3, "Permission denied")


def test_a_disk_that_becomes_full(tmp_path: Path, scope: list[str]) -> None:
    """What was written before stays, and is a capture."""
    full, kept = tmp_path / "full", tmp_path / "kept.hatrace"
    full.mkdir()
    program = (
        f'mount -t tmpfs -o size=64k none {full}; "$@"; code=$?; cp {full}/x {kept}; exit $code'
    )
    before = ["unshare", "--mount", "sh", "-c", program, "sh"]
    ended = run("record", *scope, "--json", "-d", "60s", "-o", f"{full}/x", before=before)
    explained(ended, 3, "No space left", "is kept")
    assert ended.slugs == {"check-leak"}
    report = run("report", "--json", str(kept))
    assert (report.code, report.errors) == (1, "")
    assert json.loads(report.out)["findings"][0]["slug"] == "check-leak"


@pytest.mark.parametrize("command", ["report", "replay", "export"])
@pytest.mark.parametrize("what", ["text", "empty", "folder", "missing", "fifo"])
def test_what_is_no_capture(command: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "x.hatrace"
    if what == "text":
        path.write_text("no capture\n" * 1000)
    elif what == "empty":
        path.touch()
    elif what == "folder":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    explained(run(command, str(path)), 4, str(path))


def test_a_torn_capture_yields_what_it_holds(tmp_path: Path, scope: list[str]) -> None:
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    assert run("record", *scope, "-d", "6s", "-o", str(whole)).code == 1
    data = whole.read_bytes()
    for part in (0.2, 0.4, 0.8, 0.95):
        torn.write_bytes(data[: int(len(data) * part)])
        report = run("report", "--json", str(torn))
        assert (report.code in (0, 1), report.errors) == (True, "")
        content = json.loads(report.out)
        if part < 0.5:  # what comes later is the summary, a copy of what is known
            assert "it has no end" in content["troubles"][0]["why"]
        assert run("replay", "--json", str(torn)).errors == ""


def test_lab_without_haproxy() -> None:
    haproxy = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    assert haproxy is not None
    ended = run("lab", "healthy", "-d", "1s", before=hiding(f"mount --bind /dev/null {haproxy}"))
    assert ended.code == 3
    assert "hatrace: no HAProxy on this host" in ended.errors
    assert "do: apt-get install haproxy" in ended.errors


def test_a_lab_that_is_ended_while_it_starts_leaves_nothing() -> None:
    with Hatrace("lab", "check-leak", "--json") as hatrace:
        assert wait_until(lambda: len(hatrace.relatives()) > 1)
        ended = hatrace.end(signal.SIGTERM)
        assert wait_until(lambda: hatrace.relatives() == [])
    assert "Traceback" not in ended.errors
