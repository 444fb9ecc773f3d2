"""healthy-external: external checks, whose connections are made by a program HAProxy starts."""

from __future__ import annotations

from pathlib import Path

from hatrace.lab import haproxy
from hatrace.lab.peers import Call, Serve, start
from hatrace.lab.scenario import Running, Scenario
from hatrace.lab.stage import Stage

CONFIG = """    maxconn 500
    external-check
    insecure-fork-wanted
defaults
    mode tcp
    timeout connect 2s
    timeout client 10s
    timeout server 10s
    timeout check 3s
frontend fe
    bind 127.0.0.1:{front}
    default_backend app
backend app
    option external-check
    external-check command {program}
    server s1 127.0.0.1:{echo} check inter 1s
    server s2 127.0.0.1:{silent} check inter 1s
"""
PROGRAM = """#!/bin/bash
# Arguments: address and port of the proxy, address and port of the server.
exec 3<>"/dev/tcp/$3/$4" || exit 1
echo ping >&3
read -r -t 2 answer <&3
"""


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: each check is a program with a connection of its own, for up to two seconds."""
    ports = {name: stage.port() for name in ("front", "echo", "silent")}
    program = stage.directory / "check"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    start(stage, [Serve("echo", ports["echo"]), Serve("silent", ports["silent"])], "servers")
    instance = haproxy.start(stage, CONFIG.format(program=program, **ports), binary)
    start(stage, [Call("close", ports["front"], per_second=4)], "clients")
    return Running(instance, ports)


SCENARIO = Scenario(
    name="healthy-external",
    title="Healthy: external checks, each a program with a connection of its own",
    real="`option external-check` with a program that connects, asks, and waits for up to two "
    "seconds; one server answers it, one never does.",
    injected="Nothing.",
    expects=None,
    interval_s=3.0,
    play=play,
)
