"""Why a rung cannot run, as this process, whoever runs the tests, can know it without trying."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hatrace.commands import doctor
from hatrace.errors import EnvironmentLacks
from hatrace.kernel import preflight
from hatrace.kernel.rungs import CGROUP, FENTRY, KPROBE, LADDER

ALL = frozenset({"CAP_SYS_ADMIN", "CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"})


@pytest.fixture
def powerless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "capabilities", frozenset)


@pytest.fixture
def mighty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "capabilities", lambda: ALL)


@pytest.mark.usefixtures("powerless")
def test_without_capabilities_each_rung_says_which() -> None:
    for rung in LADDER:
        answer = preflight.ask(rung)
        assert not answer.works
        assert answer.why.startswith("this process lacks CAP_")
        assert "root" in answer.do


@pytest.mark.usefixtures("powerless")
def test_the_ladder_ends_with_what_always_works() -> None:
    answers = preflight.ladder()
    assert [answer.rung for answer in answers] == ["fentry", "kprobe", "cgroup", "netlink"]
    assert [answer.works for answer in answers] == [False, False, False, True]
    assert preflight.choose() is None
    assert preflight.choose("netlink") is None


@pytest.mark.usefixtures("powerless")
@pytest.mark.parametrize("rung", LADDER, ids=lambda rung: rung.name)
def test_a_named_rung_that_cannot_run_is_an_error(rung: preflight.Rung) -> None:
    with pytest.raises(EnvironmentLacks) as caught:
        preflight.choose(rung.name)
    assert f"`{rung.name}`" in caught.value.what
    assert "CAP_" in caught.value.why
    assert caught.value.do


@pytest.mark.usefixtures("powerless")
def test_why_there_is_no_bpf_at_all() -> None:
    error = preflight.why_none()
    assert "CAP_BPF" in error.why
    assert error.do


@pytest.mark.usefixtures("mighty")
@pytest.mark.parametrize("how", ["missing", "empty"])
def test_without_btf(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    btf = tmp_path / "vmlinux"
    if how == "empty":
        btf.touch()
    monkeypatch.setattr(preflight, "VMLINUX_BTF", btf)
    assert not preflight.has_btf()
    monkeypatch.setattr(preflight, "in_host_pids", lambda: True)
    assert {preflight.ask(rung).why for rung in LADDER} == {
        "this kernel has no BTF (CONFIG_DEBUG_INFO_BTF)"
    }


@pytest.mark.usefixtures("mighty")
def test_without_cgroup_v2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    btf = tmp_path / "vmlinux"
    btf.write_bytes(b"\x9f\xeb")
    monkeypatch.setattr(preflight, "VMLINUX_BTF", btf)
    monkeypatch.setattr(preflight, "_cgroup_mounts", lambda: iter(()))
    monkeypatch.setattr(preflight, "in_host_pids", lambda: True)
    answer = preflight.ask(CGROUP)
    assert answer.why == "no cgroup v2 is mounted"
    assert "mount -t cgroup2" in answer.do


@pytest.mark.usefixtures("mighty")
def test_a_part_of_cgroup_v2_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_cgroup_mounts", lambda: iter([tmp_path]))
    assert preflight.cgroup_mount() == tmp_path
    (tmp_path / "cgroup.events").touch()
    assert preflight.cgroup_mount() is None
    why, do = preflight.why_no_cgroup()
    assert "only a container's part" in why and "--cgroupns=host" in do


@pytest.mark.usefixtures("mighty")
def test_in_a_pid_namespace_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "in_host_pids", lambda: False)
    for rung in LADDER:
        answer = preflight.ask(rung)
        assert not answer.works and "pid namespace" in answer.why and "--pid=host" in answer.do


def test_which_rung_needs_what() -> None:
    assert [rung.needs_cgroup for rung in (FENTRY, KPROBE, CGROUP)] == [False, False, True]
    for rung in LADDER:
        assert preflight.needed(rung) <= ALL
        assert rung.blind_spots, "there is always something that a rung cannot see"


def test_our_own_capabilities() -> None:
    held = preflight.capabilities()
    if os.geteuid():
        assert "CAP_SYS_ADMIN" not in held
    assert held <= ALL | doctor.WITHOUT.keys()


def test_lockdown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "lockdown"
    monkeypatch.setattr(preflight, "_LOCKDOWN", file)
    assert preflight.lockdown() == "unknown"
    for text, word in (
        ("[none] integrity confidentiality\n", "none"),
        ("none integrity [confidentiality]\n", "confidentiality"),
        ("\n", "unknown"),
    ):
        file.write_text(text)
        assert preflight.lockdown() == word
