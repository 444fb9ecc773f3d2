"""healthy: everything that looks like trouble and is none.  Nothing may be found."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from hatrace.lab import haproxy
from hatrace.lab.peers import Call, Serve, start
from hatrace.lab.scenario import Running, Scenario
from hatrace.lab.stage import Stage

RELOAD_S = 5.0

CONFIG = """    maxconn 2000
    hard-stop-after 10s
defaults
    timeout connect 2s
    timeout client 5s
    timeout server 5s
    timeout check 1s
    timeout queue 2s
frontend tcp
    mode tcp
    bind 127.0.0.1:{tcp}
    default_backend echo
backend echo
    mode tcp
    server echo1 127.0.0.1:{echo} check inter 500ms
    server half1 127.0.0.1:{half} check inter 500ms
    server reset1 127.0.0.1:{reset} check inter 500ms
frontend web
    mode http
    bind 127.0.0.1:{web}
    http-reuse safe
    default_backend web
backend web
    mode http
    http-reuse safe
    option httpchk GET /
    server kept 127.0.0.1:{kept} check inter 500ms
    server once 127.0.0.1:{once} check inter 500ms agent-check agent-port {agent} agent-inter 1s
    server slow 127.0.0.1:{slow} check inter 500ms maxconn 5
    server fails 127.0.0.1:{fails} check inter 500ms
    server refuses 127.0.0.1:{refuses} check inter 500ms
    server hangs 127.0.0.1:{hangs} check inter 1s
"""
PORTS = ("tcp", "echo", "half", "reset", "web", "kept", "once", "agent", "slow", "fails",
         "refuses", "hangs")  # fmt: skip
GET = "GET / HTTP/1.1\r\nHost: lab\r\n\r\n"


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: checks that pass, fail, hang and are refused, all kinds of ends, reloads."""
    ports = {name: stage.port() for name in PORTS}
    start(
        stage,
        [
            Serve("echo", ports["echo"]),
            Serve("half-close", ports["half"]),
            Serve("reset", ports["reset"]),
            Serve("http-keep-alive", ports["kept"]),
            Serve("http", ports["once"]),
            Serve("agent", ports["agent"]),
            Serve("http-keep-alive", ports["slow"], seconds=0.3),
            Serve("http-error", ports["fails"]),
            Serve("silent", ports["hangs"]),
        ],
        "servers",
    )
    instance = haproxy.start(stage, CONFIG.format(**ports), binary)
    start(
        stage,
        [
            Call("close", ports["tcp"], per_second=10),
            Call("half-close", ports["tcp"], per_second=10),
            Call("reset", ports["tcp"], per_second=5),
            Call("leave", ports["tcp"], per_second=5),
            Call("talk", ports["tcp"], per_second=0.5, seconds=8, most=8),
            Call("keep-alive", ports["web"], per_second=5, send=GET, seconds=0.1),
            Call("reset", ports["web"], per_second=5, send=GET),
            Call("close", str(instance.master), per_second=2, send="show proc\n"),
            Call("close", str(instance.stats), per_second=2, send="show info\n"),
        ],
        "clients",
    )
    reload_forever(stage, instance.pid, RELOAD_S)
    return Running(instance, {"reload_s": RELOAD_S, **ports})


def reload_forever(stage: Stage, master: int, every_s: float) -> None:
    """A program that reloads the master, as an operator's automation would."""
    reload = f"os.kill({master}, {int(signal.SIGUSR2)})"
    loop = f"import os, time\nwhile True:\n time.sleep({every_s})\n {reload}"
    stage.spawn([sys.executable, "-c", loop], "reloads.log")


SCENARIO = Scenario(
    name="healthy",
    title="Healthy: traffic, checks and reloads, and nothing leaks",
    real="Everything: half-closes and resets that end, keep-alive and its pool, slow and queued "
    "requests, checks that pass, fail, hang and are refused, agent checks, a reload every "
    "five seconds, command-line clients that leave.",
    injected="Nothing.",
    expects=None,
    interval_s=RELOAD_S,
    play=play,
)
