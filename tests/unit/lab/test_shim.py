"""The shim withholds exactly the closes that its rules name, in a real process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hatrace.errors import EnvironmentLacks
from hatrace.lab import shim
from hatrace.model.flow import State

PROGRAM = """
import os, socket, sys
listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
for listener in listeners:
    listener.set_inheritable(True)
os.environ["HATRACE_LAB_FAULTS"] = sys.argv[1].replace("PORT", str(listeners[0].getsockname()[1]))
os.environ["LD_PRELOAD"] = sys.argv[2]
fds = [str(listener.fileno()) for listener in listeners]
os.execv(sys.executable, [sys.executable, "-c", sys.argv[3], *fds])
"""
INSIDE = """
import json, os, socket, sys
result = {}
for name, fileno in zip(("named", "other"), sys.argv[1:]):
    listener = socket.socket(fileno=int(fileno))
    for case in ("plain", "client ends"):
        clients = [socket.create_connection(listener.getsockname()) for _ in range(4)]
        accepted = [listener.accept()[0] for _ in clients]
        fds = [one.fileno() for one in clients + accepted]
        if case == "client ends":
            for client, server in zip(clients, accepted):
                client.shutdown(socket.SHUT_WR)
                server.recv(1)
        for one in clients + accepted:
            one.close()
        result[f"{name} {case}"] = sum(os.path.exists(f"/proc/self/fd/{fd}") for fd in fds)
print(json.dumps(result))
"""


def held(faults: list[shim.Fault], tmp_path: Path, from_s: int = 0) -> dict[str, int]:
    """Of 8 fds closed (4 connected, 4 accepted), how many stay open, per case."""
    library = str(shim.compiled(tmp_path))
    words = [sys.executable, "-c", PROGRAM, ";".join(map(str, faults)), library, INSIDE]
    environment = os.environ | {"HATRACE_LAB_FROM": str(from_s)}
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=60, check=True, env=environment
    )
    result: dict[str, int] = json.loads(done.stdout)
    return result


def named(kind: str, state: State | None = None, every: int = 1) -> shim.Fault:
    return shim.Fault(kind, "PORT", state, every)


@pytest.mark.parametrize(
    ("fault", "plain", "client_ends"),
    [
        (named("connected"), 4, 4),
        (named("connected", every=2), 2, 2),
        (named("accepted"), 4, 4),
        (named("accepted", State.CLOSE_WAIT), 4, 4),
        (named("connected", State.CLOSE), 0, 0),
        (named("connected", State.ESTABLISHED), 4, 0),
    ],
)
def test_only_what_the_rule_names_is_withheld(
    fault: shim.Fault, plain: int, client_ends: int, tmp_path: Path
) -> None:
    assert held([fault], tmp_path) == {
        "named plain": plain,
        "named client ends": client_ends,
        "other plain": 0,
        "other client ends": 0,
    }


def test_two_rules_add_up(tmp_path: Path) -> None:
    assert held([named("connected"), named("accepted")], tmp_path)["named plain"] == 8


def test_without_rules_or_before_its_time_nothing_is_withheld(tmp_path: Path) -> None:
    assert set(held([], tmp_path).values()) == {0}
    later_s = int(time.monotonic()) + 3600
    assert set(held([named("connected")], tmp_path, later_s).values()) == {0}


def test_the_environment_names_rules_and_object(tmp_path: Path) -> None:
    faults = [shim.connected(80), shim.accepted(443, State.CLOSE_WAIT, every=3)]
    environment = shim.environment(faults, tmp_path, from_s=17)
    assert environment["HATRACE_LAB_FAULTS"] == "connected 80 0 1;accepted 443 8 3"
    assert environment["HATRACE_LAB_FROM"] == "17"
    assert Path(environment["LD_PRELOAD"]).exists()


def test_without_a_compiler_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentLacks) as caught:
        shim.compiled(tmp_path)
    assert "gcc" in caught.value.do


def test_it_loads_into_an_older_library() -> None:
    """No symbol newer than glibc 2.17, so that the binaries of old suites take it."""
    object_file = shim.compiled(Path(os.environ.get("TMPDIR", "/tmp")))
    text = object_file.read_bytes()
    object_file.unlink()
    versions = {
        tuple(map(int, word.split(b"_")[1].split(b".")))
        for word in text.split(b"\0")
        if word.startswith(b"GLIBC_2.")
    }
    assert versions
    assert max(versions) <= (2, 17)
