"""healthy-peers: two HAProxys that share a table, a peer that is gone, logs over TCP."""

from __future__ import annotations

from pathlib import Path

from hatrace.lab import haproxy
from hatrace.lab.peers import Call, Serve, start
from hatrace.lab.scenario import Running, Scenario
from hatrace.lab.stage import Stage

CONFIG = """    localpeer {me}
    maxconn 500
    log ring@tcp format rfc5424 local0
ring tcp
    format rfc5424
    server log 127.0.0.1:{log} check inter 1s
    timeout connect 2s
    timeout server 10s
peers lab
    peer one 127.0.0.1:{one}
    peer two 127.0.0.1:{two}
    peer gone 127.0.0.1:{gone}
    peer mute 127.0.0.1:{mute}
defaults
    mode tcp
    log global
    option tcplog
    timeout connect 2s
    timeout client 5s
    timeout server 5s
frontend fe
    bind 127.0.0.1:{front}
    stick-table type ip size 1k expire 1m peers lab store conn_cnt
    tcp-request connection track-sc0 src
    default_backend app
backend app
    server s1 127.0.0.1:{echo} check inter 1s
"""
PORTS = ("log", "one", "two", "gone", "mute", "echo")


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: two instances, both watched."""
    ports = {name: stage.port() for name in PORTS}
    fronts = {name: stage.port() for name in ("one", "two")}
    start(
        stage,
        [
            Serve("silent", ports["log"]),
            Serve("silent", ports["mute"]),
            Serve("echo", ports["echo"]),
        ],
        "servers",
    )
    one, two = (
        haproxy.start(stage, CONFIG.format(me=me, front=front, **ports), binary, name=me)
        for me, front in fronts.items()
    )
    start(stage, [Call("close", front, per_second=4) for front in fronts.values()], "clients")
    return Running(one, {**ports, "second": two.pid}, (one.pid, two.pid))


SCENARIO = Scenario(
    name="healthy-peers",
    title="Healthy: peers that share a table, a peer that is gone, logs over TCP",
    real="Two HAProxys and their peers protocol, a third peer that refuses, a fourth that never "
    "answers; a ring that sends each log line over one lasting TCP connection.",
    injected="Nothing.",
    expects=None,
    interval_s=10.0,
    play=play,
)
