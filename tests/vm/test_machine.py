"""Real guests: exit codes, limits, what goes in and what comes out.

Each boots the kernel that boots fastest, in about four seconds; ``pytest tests/vm`` asks for them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from vm import images, kernels, machine

pytestmark = pytest.mark.vm

KERNEL = kernels.kernel("5.10")


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    images.demand_tools()


def boot(command: str, share: Path | None = None, **more: object) -> machine.Result:
    order = machine.Order(KERNEL, command, share=share, capture=True, **more)  # type: ignore[arg-type]
    return machine.run(order)


def test_the_commands_exit_code_and_output() -> None:
    result = boot("echo out; echo err >&2; uname -r; id -u; exit 7")
    assert (result.code, result.output.split()) == (7, ["out", "err", result.release, "0"])


def test_much_output_comes_unchanged() -> None:
    result = boot("seq 40000")
    assert result.output == "".join(f"{number}\n" for number in range(1, 40001))


def test_what_is_shared_and_what_comes_back(tmp_path: Path) -> None:
    share, out = tmp_path / "share", tmp_path / "out"
    (share / "sub").mkdir(parents=True)
    (share / "sub/file").write_text("hello")
    (share / ".git").mkdir()
    result = boot("ls -A; cat sub/file >/out/copy; echo x >sub/file", share, out=out)
    assert (result.code, result.output.split()) == (0, ["sub"])
    assert (out / "copy").read_text() == (share / "sub/file").read_text() == "hello"


def test_nothing_stays_in_the_image() -> None:
    command = "test ! -e /etc/hatrace-was-here && touch /etc/hatrace-was-here"
    assert [boot(command).code, boot(command).code] == [0, 0]


def test_the_time_limit() -> None:
    result = boot("sleep 600", limit_s=12)
    assert result.code == machine.TIME_LIMIT


def test_a_guest_that_dies() -> None:
    result = boot("echo c >/proc/sysrq-trigger; sleep 60")
    assert result.code == machine.DIED
    assert "sysrq triggered crash" in result.console


@pytest.mark.parametrize("kernel", kernels.KERNELS, ids=lambda kernel: kernel.name)
def test_each_userland_has_what_it_says(kernel: kernels.Kernel) -> None:
    command = "python3 -V; haproxy -v; python3 -c 'import bcc, click, mcap, msgspec, pytest'"
    result = machine.run(machine.Order(kernel, command, share=None, capture=True))
    assert result.code == 0, result.output
    assert f"Python {kernel.userland.python}." in result.output
    assert f"version {kernel.userland.haproxy}." in result.output
    if kernel.name[0].isdigit():
        assert result.release.startswith(f"{kernel.name.partition('-')[0]}.")
