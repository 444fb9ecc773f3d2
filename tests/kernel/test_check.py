"""hatrace check against the real HAProxy: what it says is what HAProxy does."""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hatrace.commands import check
from hatrace.errors import UsageError
from hatrace.lab import builds
from hatrace.lab.haproxy import HAProxy, start
from hatrace.lab.stage import Stage, wait_until

pytestmark = pytest.mark.kernel

PROXY = """    maxconn 1000
    nbthread 2
defaults
    mode tcp
    timeout connect 1s
    timeout client 20s
    timeout server 20s
listen a
    bind 127.0.0.1:{port}
    server s1 127.0.0.1:1 check agent-check agent-port 2
    server s2 127.0.0.1:1 check
"""


def run(*words: str) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and the answers, one for each HAProxy."""
    result = CliRunner().invoke(
        check.command, [*words, "--json"], catch_exceptions=False, standalone_mode=False
    )
    return result.return_value, [json.loads(line) for line in result.stdout.splitlines()]


def findings(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {found["slug"]: found for found in answer["findings"]}


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as one:
        yield one


def running(haproxy: HAProxy) -> dict[str, Any]:
    _, answers = run()
    return next(one for one in answers if one["pid"] == haproxy.pid)


def _asked(haproxy: HAProxy, command: str) -> str:
    """What the master answers first; it does not close, as a worker does."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(5)
        if link.connect_ex(str(haproxy.master)):
            return ""
        link.sendall(command.encode() + b"\n")
        return link.recv(65536).decode()


@pytest.mark.parametrize("suite", [None, *sorted(builds.available())])
def test_the_arithmetic_of_fds_is_haproxys_own(stage: Stage, suite: str | None) -> None:
    binary = builds.available()[suite] if suite else None
    haproxy = start(stage, PROXY.format(port=31400), binary, standalone=True)
    info = dict(
        line.split(": ", 1) for line in haproxy.ask("show info").splitlines() if ": " in line
    )
    told = running(haproxy)["descriptors"]
    assert (told["needed"], told["maxconn"]) == (int(info["Maxsock"]), int(info["Maxconn"]))


def test_a_running_one_is_validated_by_its_own_binary(stage: Stage) -> None:
    haproxy = start(stage, PROXY.format(port=31401))
    answer = running(haproxy)
    assert answer["validation"]["accepted"], answer["validation"]
    assert answer["version"] == builds.version(haproxy.binary)
    assert answer["files"] == [str(haproxy.config)]
    hard_stop = findings(answer)["no-hard-stop"]
    assert hard_stop["severity"] == "warning"
    assert hard_stop["evidence"][0]["note"] == f"{haproxy.config}:1: global"


def test_a_file_broken_since_the_start_is_rejected_also_after_a_reload(stage: Stage) -> None:
    """After a reload the master's environment says that it is a master: -c must not see that."""
    haproxy = start(stage, PROXY.format(port=31402))
    assert wait_until(lambda: bool(_asked(haproxy, "show proc")))  # or it misses the signal
    haproxy.reload()
    assert running(haproxy)["validation"]["accepted"]
    with haproxy.config.open("a") as file:
        file.write("    bogus word\n")
    rejected = findings(running(haproxy))["config-rejected"]
    assert rejected["severity"] == "critical"
    assert any("bogus" in one["note"] for one in rejected["evidence"])


def test_clients_of_the_masters_socket_are_counted_and_named(stage: Stage) -> None:
    haproxy = start(stage, PROXY.format(port=31403))
    path = str(haproxy.master)
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(6)]
        for client in clients:
            assert wait_until(lambda: client.connect_ex(path) == 0)  # noqa: B023
        found = findings(running(haproxy))["master-slots"]
    assert (found["severity"], found["count"]) == ("warning", 6)
    assert found["evidence"][0]["note"] == "6 connections"
    assert "pytest" in found["evidence"][0]["comm"]


def test_a_group_of_files_from_somebody_else_is_not_run(stage: Stage) -> None:
    haproxy = start(stage, PROXY.format(port=31404), standalone=True)
    haproxy.config.chmod(0o666)
    answer = running(haproxy)
    assert answer["validation"] is None
    why = {one["question"]: one["why"] for one in answer["not_asked"]}["config-rejected"]
    assert "others may write it" in why


def test_what_haproxy_will_not_start_with_is_said_before(tmp_path: Path) -> None:
    file = tmp_path / "h.cfg"
    text = "global\n" + PROXY.format(port=31405).replace("maxconn 1000", "maxconn 2000000")
    file.write_text(text)
    code, (answer,) = run(str(file))
    assert answer["validation"]["accepted"]  # -c sets no limits
    assert code == 1
    assert findings(answer)["fd-limit"]["claim"].startswith("maxconn 2,000,000 needs")
    real = subprocess.run(
        [builds.system(), "-db", "-f", file], capture_output=True, text=True, timeout=20
    )
    assert real.returncode != 0
    assert f"Cannot raise FD limit to {answer['descriptors']['needed']}" in real.stderr


def test_a_rejected_file_is_exit_code_1_with_haproxys_words(tmp_path: Path) -> None:
    file = tmp_path / "h.cfg"
    file.write_text("global\n    bogus 1\n")
    code, (answer,) = run(str(file))
    assert code == 1
    assert not answer["validation"]["accepted"]
    result = CliRunner().invoke(check.command, [str(file)], standalone_mode=False)
    assert "unknown keyword 'bogus'" in " ".join(result.output.split())


def test_a_good_file_is_exit_code_0(tmp_path: Path) -> None:
    file = tmp_path / "h.cfg"
    file.write_text(
        "global\n    hard-stop-after 15m\n    maxconn 100\ndefaults\n    mode http\n"
        "    timeout connect 5s\n    timeout client 50s\n    timeout server 50s\n"
        "    option httpchk\nlisten a\n    bind 127.0.0.1:31406\n"
        "    server s 127.0.0.1:1 check\n"
    )
    code, (answer,) = run(str(file))
    assert code == 0, answer["findings"]
    assert {one["severity"] for one in answer["findings"]} <= {"notice"}


def test_the_incident_by_its_version(tmp_path: Path) -> None:
    file = tmp_path / "h.cfg"
    file.write_text(
        "defaults\n    mode tcp\nlisten a\n    bind 127.0.0.1:31407\n    option httpchk\n"
        "    server s 127.0.0.1:31443 check port 31800 inter 10s\n"
    )
    code, (answer,) = run(str(file), "--version", "2.9.1")
    assert code == 1
    assert answer["findings"][0]["slug"] == "zero-copy-tcp"
    assert "config-rejected" in {one["question"] for one in answer["not_asked"]}


def test_a_folder_is_read_as_haproxy_reads_it(tmp_path: Path) -> None:
    (tmp_path / "1.cfg").write_text("global\n    hard-stop-after 5m\n")
    (tmp_path / "2.cfg").write_text("listen a\n    bind 127.0.0.1:31408\n")
    _, (answer,) = run(str(tmp_path))
    assert "no-hard-stop" not in findings(answer)
    assert findings(answer)["missing-timeout"]["evidence"][0]["note"].startswith(
        f"{tmp_path}/2.cfg:1: listen a"
    )


@pytest.mark.parametrize(
    "words", [("/nowhere/h.cfg",), ("--version", "new"), ("--haproxy", "/usr/sbin/haproxy")]
)
def test_what_makes_no_sense_is_a_usage_error(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        run(*words)


def test_one_that_cannot_be_read_does_not_hide_the_others(stage: Stage) -> None:
    gone = start(stage, PROXY.format(port=31410), standalone=True, name="gone")
    other = start(stage, PROXY.format(port=31411), standalone=True, name="other")
    gone.config.unlink()
    result = CliRunner().invoke(check.command, ["--json"], standalone_mode=False)
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert other.pid in [one["pid"] for one in answers]
    assert gone.pid not in [one["pid"] for one in answers]
    assert f"the configuration of HAProxy {gone.pid} cannot be read" in result.stderr


def test_what_another_user_gave_its_haproxy_is_not_run_as_root() -> None:
    """Its environment (LD_PRELOAD ...) is not passed on; a refusal without it is no finding."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        file = Path(folder, "h.cfg")
        file.write_text('listen a\n    bind "127.0.0.1:${LAB_PORT}"\n')
        child = subprocess.Popen(
            [builds.system(), "-db", "-f", file],
            env={"LAB_PORT": "31412"},
            user=65534,
            group=65534,
            extra_groups=(),
            stderr=subprocess.DEVNULL,
        )
        try:
            assert wait_until(lambda: _listens(31412))
            _, answers = run()
        finally:
            child.terminate()
            child.wait()
    (answer,) = (one for one in answers if one["pid"] == child.pid)
    assert answer["validation"] is None
    assert "config-rejected" not in findings(answer)
    why = {one["question"]: one["why"] for one in answer["not_asked"]}["config-rejected"]
    assert "runs as another user" in why


def _listens(port: int) -> bool:
    with socket.socket() as link:
        return link.connect_ex(("127.0.0.1", port)) == 0
