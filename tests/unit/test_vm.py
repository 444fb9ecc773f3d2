"""The parts of vm/ that need no guest: the list of kernels, the initramfs, the table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.measure import Sample
from bench.tools import on_rung
from vm import cost, guest, images, kernels, matrix, table
from vm import outcome as outcomes
from vm.__main__ import options
from vm.outcome import Outcome, _read

ROOT = Path(__file__).parents[2]


def members(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Name → (mode, data) of a newc archive, read as cpio(5) says."""
    found, at = {}, 0
    while True:
        assert archive[at : at + 6] == b"070701" and at % 4 == 0
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_bytes = fields[1], fields[6], fields[11]
        name = archive[at + 110 : at + 110 + name_bytes - 1].decode()
        at += (110 + name_bytes + 3) // 4 * 4
        if name == "TRAILER!!!":
            return found
        found[name] = (mode, archive[at : at + size])
        at += (size + 3) // 4 * 4


def test_cpio() -> None:
    given = [("bin", 0o040755, b""), ("init", 0o100755, b"#!/bin/sh\n"), ("a.ko", 0o100644, b"xyz")]
    assert members(guest.cpio(given)) == {name: (mode, data) for name, mode, data in given}


@pytest.mark.parametrize("machine", [kernels.AMD64, kernels.ARM64])
def test_initramfs(machine: kernels.Machine, tmp_path: Path) -> None:
    (tmp_path / "modules").write_text("b.ko\na.ko\n")
    for name in ("a.ko", "b.ko"):
        (tmp_path / name).write_text(name)
    (tmp_path / "busybox").write_bytes(b"ELF")
    inside = members(guest.initramfs(tmp_path, machine, Path("/work/it's here"), "uname -r"))
    assert inside["modules"][1] == b"b.ko\na.ko\n" and inside["a.ko"][1] == b"a.ko"
    assert inside["command"][1] == b"uname -r\n"
    assert b"SHARE='/work/it'\"'\"'s here'\n" in inside["stage2"][1]
    assert f"OUTPUT={machine.output} STATUS={machine.status}\n".encode() in inside["stage2"][1]


def test_kernels_are_found_by_name() -> None:
    names = [kernel.name for kernel in kernels.KERNELS]
    assert len(set(names)) == len(names)
    assert [kernels.kernel(name).name for name in names] == names
    assert set(kernels.SHORT) < set(names)


def test_an_image_depends_on_its_inputs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = images._root_key(kernels.BOOKWORM)
    assert images._root_key(kernels.BOOKWORM) == before
    assert images._root_key(replace(kernels.BOOKWORM, suite="forky")) != before
    monkeypatch.setattr(images, "PACKAGES", (*images.PACKAGES, "vim"))
    assert images._root_key(kernels.BOOKWORM) != before


def test_haproxy_may_come_from_another_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "mirror", lambda: "deb uri")
    assert "haproxy/bullseye" in list(images._packages(kernels.OLD_HAPROXY))
    assert images._sources(kernels.OLD_HAPROXY) == [
        "deb uri bookworm main",
        "deb uri bullseye main",
    ]
    assert images._sources(kernels.BOOKWORM) == ["deb uri bookworm main"]


def test_options() -> None:
    chosen = options(["run", "--kernel", "6.12", "--", "python3", "-m", "pytest", "-q"])
    assert (chosen.kernel, chosen.words) == ("6.12", ["python3", "-m", "pytest", "-q"])
    with pytest.raises(SystemExit, match="2"):
        options(["run", "--kernel", "2.6", "--", "true"])


JUNIT = """<testsuites><testsuite>
<testcase name="test_a[fentry]"><properties><property name="fact" value="A"/>
 <property name="rung" value="fentry"/><property name="sees" value="yes"/></properties></testcase>
<testcase name="test_a[cgroup]"><properties><property name="fact" value="A"/>
 <property name="rung" value="cgroup"/><property name="sees" value="no: later"/></properties>
 <failure message="it does"/></testcase>
<testcase name="test_b"/><testcase name="test_c"><skipped/></testcase>
</testsuite></testsuites>"""


def test_pytests_report(tmp_path: Path) -> None:
    report = tmp_path / "junit.xml"
    report.write_text(JUNIT)
    assert _read(report) == (
        2,
        ("test_a[cgroup]",),
        {"A": {"fentry": "yes", "cgroup": "**wrong**"}},
    )


def outcome(name: str, **sees: str) -> Outcome:
    return Outcome(
        kernels.kernel(name),
        f"{name}.0-test",
        0,
        12.3,
        passed=5,
        date="2026-11-21",
        about={
            "python": "3.11.2",
            "ladder": {"fentry": "", "kprobe": "no kprobes", "cgroup": ""},
            "admin alone": ["cgroup", "fentry"],
            "capabilities": {"fentry": ["CAP_BPF"], "kprobe": [], "cgroup": ["CAP_BPF"]},
        },
        sees={"the owner": sees},
    )


def test_the_page() -> None:
    """A rung that a kernel refuses has no cell of that kernel among the facts."""
    one = outcome("6.12", fentry="yes", kprobe="yes", cgroup="no")
    two = outcome("6.1", fentry="yes", cgroup="yes")
    old = outcome("5.10", fentry="yes", cgroup="yes")
    page = table.page([one, two, old], [one])
    assert "| 6.12 | 6.12.0-test | 3.11.2 | ? | ? | 5 | 0 | 2026-11-21 |" in page
    assert "| 6.1 | works | no kprobes | works |" in page
    assert "| 6.12, lockdown=confidentiality | works | no kprobes | works |" in page
    facts = "| the owner | yes | 6.12: yes, 6.1: not run | 6.12: no, 6.1: yes, 5.10: yes |"
    assert facts in page
    assert "| 6.12 | CAP_BPF | refused | CAP_BPF | cgroup, fentry |" in page


def test_the_cost_of_each_rung_is_a_part_of_its_peers() -> None:
    def sample(tool: str, number: int, us: int) -> Sample:
        return Sample("loop", tool, number, counted=100, bpf_ns=us * 100_000, bpf_runs=1_500)

    samples = [sample("tcplife", 0, 300), sample("tcplife", 1, 200)]
    samples += [sample(on_rung("fentry"), 0, 30), sample(on_rung("fentry"), 1, 10)]
    samples += [sample(on_rung("cgroup"), 0, 20), sample(on_rung("cgroup"), 1, 10)]
    samples.append(Sample("loop", on_rung("kprobe"), 0, failure="no kprobes"))
    assert list(cost._rows("6.1.0-test", samples)) == [
        ("6.1.0-test", "`tcplife`", "250 (200-300)", "15.0", "", ""),
        ("6.1.0-test", "fentry", "20 (10-30)", "15.0", "0.08 (0.05-0.10)", "1.25 (1.00-1.50)"),
        ("6.1.0-test", "kprobe", "no kprobes", "", "", ""),
        ("6.1.0-test", "cgroup", "15 (10-20)", "15.0", "0.06 (0.05-0.07)", "1.00 (1.00-1.00)"),
    ]


def test_outcomes_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel's latest outcome is on the page, also when only others are run."""
    monkeypatch.setattr(outcomes, "LOGS", tmp_path)
    one, two = outcome("5.10", fentry="yes"), outcome("6.1", cgroup="no")
    for each in (two, one, replace(two, passed=6)):
        outcomes.keep(each, "")
    outcomes.keep(one, matrix.LOCKDOWN)
    assert [each.passed for each in outcomes.kept("")] == [5, 6]
    assert [each.kernel for each in outcomes.kept(matrix.LOCKDOWN)] == [one.kernel]
    assert next(outcomes.kept("")).sees == one.sees


def test_the_committed_page_has_every_kernel_of_the_list() -> None:
    page = ROOT / "docs/kernels.md"
    if not page.exists():
        pytest.skip("no whole matrix was run yet: scripts/vm matrix --write")
    lines = page.read_text().splitlines()
    for kernel in kernels.KERNELS:
        assert any(line.startswith(f"| {kernel.name} | ") for line in lines), kernel.name
    assert not any("**wrong**" in line or "not run" in line for line in lines)
