"""healthy-reloads: a storm of reloads under short sessions.  Nothing may be found."""

from __future__ import annotations

from pathlib import Path

from hatrace.lab import haproxy
from hatrace.lab.peers import Call, Serve, start
from hatrace.lab.scenario import Running, Scenario
from hatrace.lab.scenarios.healthy import reload_forever
from hatrace.lab.stage import Stage

RELOAD_S = 1.5

CONFIG = """    maxconn 2000
defaults
    mode tcp
    timeout connect 2s
    timeout client 5s
    timeout server 5s
frontend fe
    bind 127.0.0.1:{front}
    default_backend app
backend app
    server s1 127.0.0.1:{service} check inter 500ms
    server s2 127.0.0.1:{service} check inter 500ms
peers lab
    peer {name} 127.0.0.1:{peer}
    peer other 127.0.0.1:{other}
"""


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: sessions of up to two seconds, bursts, and a peers section."""
    ports = {name: stage.port() for name in ("front", "service", "peer", "other")}
    start(stage, [Serve("echo", ports["service"])], "servers")
    config = "    localpeer lab1\n" + CONFIG.format(name="lab1", **ports)
    instance = haproxy.start(stage, config, binary)
    start(
        stage,
        [
            Call("talk", ports["front"], per_second=5, seconds=2),
            Call("close", ports["front"], per_second=60),
        ],
        "clients",
    )
    reload_forever(stage, instance.pid, RELOAD_S)
    return Running(instance, {"reload_s": RELOAD_S, **ports})


SCENARIO = Scenario(
    name="healthy-reloads",
    title="Healthy: a storm of reloads under short sessions",
    real="Everything: a reload every one and a half seconds, sessions of up to two seconds, "
    "bursts that leave TIME_WAIT, a peer that is not there.",
    injected="Nothing.",
    expects=None,
    interval_s=RELOAD_S,
    play=play,
)
