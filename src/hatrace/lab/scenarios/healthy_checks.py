"""healthy-checks: checks of all kinds that fail, hang, flap or are slow.  Nothing may be found."""

from __future__ import annotations

from pathlib import Path

from hatrace.lab import builds, haproxy
from hatrace.lab.peers import Serve, start
from hatrace.lab.scenario import Running, Scenario
from hatrace.lab.stage import Stage

CONFIG = """    maxconn 500
    external-check
    insecure-fork-wanted
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
    timeout check 3s
frontend fe
    bind 127.0.0.1:{front}
    default_backend web
backend web
    option httpchk GET /
    default-server inter 1s fastinter 300ms downinter 500ms fall 2 rise 2
    server slow 127.0.0.1:{slow} check
    server hangs 127.0.0.1:{hangs} check
    server fails 127.0.0.1:{fails} check
    server resets 127.0.0.1:{resets} check
    server closes 127.0.0.1:{closes} check
    server refuses 127.0.0.1:{refuses} check
    server agent 127.0.0.1:{once} check agent-check agent-port {agent} agent-inter 700ms
    server agentless 127.0.0.1:{once} check agent-check agent-port {hangs} agent-inter 1s
    server reused 127.0.0.1:{kept} check {reuse}
backend plain
    mode tcp
    server listens 127.0.0.1:{echo} check inter 500ms
    server full 127.0.0.1:{hangs} check inter 500ms
backend external
    mode tcp
    option external-check
    external-check command /bin/true
    server any 127.0.0.1:{echo} check inter 1s
"""
PORTS = ("front", "slow", "hangs", "fails", "resets", "closes", "refuses", "once", "agent",
         "kept", "echo")  # fmt: skip


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: no traffic, only checks."""
    ports = {name: stage.port() for name in PORTS}
    start(
        stage,
        [
            Serve("http", ports["slow"], seconds=2.5),
            Serve("silent", ports["hangs"]),
            Serve("http-error", ports["fails"]),
            Serve("reset", ports["resets"]),
            Serve("close", ports["closes"]),
            Serve("http", ports["once"]),
            Serve("agent", ports["agent"]),
            Serve("http-keep-alive", ports["kept"]),
            Serve("echo", ports["echo"]),
        ],
    )
    reuse = "check-reuse-pool" if _reuses(binary or builds.system()) else ""
    instance = haproxy.start(stage, CONFIG.format(reuse=reuse, **ports), binary)
    return Running(instance, {"reuse": bool(reuse), **ports})


def _reuses(binary: Path) -> bool:
    """`check-reuse-pool` came with 3.2."""
    major, minor = builds.version(binary).split(".")[:2]
    return (int(major), int(minor.split("-")[0])) >= (3, 2)


SCENARIO = Scenario(
    name="healthy-checks",
    title="Healthy: checks that are slow, hang, fail, flap, are refused or reset",
    real="Everything: HTTP, TCP, agent and external checks, `check-reuse-pool` from 3.2 on; each "
    "holds at most one socket.",
    injected="Nothing.",
    expects=None,
    interval_s=3.0,
    play=play,
)
