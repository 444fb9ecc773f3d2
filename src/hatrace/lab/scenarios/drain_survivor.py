"""drain-survivor: a server is taken out by a reload, and its sessions go on in the old worker."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from hatrace.lab import haproxy
from hatrace.lab.peers import Call, Serve, start
from hatrace.lab.scenario import Expected, Running, Scenario
from hatrace.lab.stage import Stage, wait_until

SESSIONS = 4
REMOVED_AFTER_S = 3.0
INTERVAL_S = 7.0
"""A third of that and of what an ordinary hand-over may take."""

CONFIG = """    maxconn 500
defaults
    mode tcp
    timeout connect 2s
    timeout client 1h
    timeout server 1h
frontend fe
    bind 127.0.0.1:{front}
    default_backend app
backend app
    server kept 127.0.0.1:{kept} check inter 1s
"""
REMOVED = "    server removed 127.0.0.1:{removed} check inter 1s\n"


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: sessions to both servers; a while later one is removed, as operators do it."""
    instance, facts, after = begin(stage, binary)
    program = (
        "import sys; from hatrace.lab.scenarios import drain_survivor as d; d.remove(sys.argv)"
    )
    words = (instance.pid, instance.binary, instance.config, instance.stats, after)
    stage.spawn([sys.executable, "-c", program, *map(str, words)], "removal.log")
    return Running(instance, facts)


def begin(stage: Stage, binary: Path | None) -> tuple[haproxy.HAProxy, dict[str, object], Path]:
    """Sessions to both servers, and the configuration without one of them."""
    ports = {name: stage.port() for name in ("front", "kept", "removed")}
    start(stage, [Serve("echo", ports["kept"]), Serve("echo", ports["removed"])], "servers")
    config = (CONFIG + REMOVED).format(**ports)
    instance = haproxy.start(stage, config, binary)
    start(
        stage,
        [Call("talk", ports["front"], per_second=50, count=2 * SESSIONS)],
        "clients",
    )
    wait_until(lambda: instance.ask("show sess").count("fe=fe ") >= 2 * SESSIONS)
    after = stage.directory / "after.cfg"
    after.write_text(CONFIG.format(**ports))
    return instance, {**ports, "old": instance.worker(), "sessions": SESSIONS}, after


def remove(words: list[str]) -> None:
    """In a process of its own, a while later: see `play` for its arguments."""
    pid, (binary, config, stats, after) = int(words[1]), map(Path, words[2:])
    time.sleep(REMOVED_AFTER_S)
    take_out(haproxy.HAProxy(pid, binary, config, stats, None), after)


def take_out(instance: haproxy.HAProxy, after: Path) -> None:
    """What the operator does."""
    instance.ask("disable server app/removed")
    haproxy.configure(instance, after.read_text())
    instance.reload()
    instance.ask("shutdown sessions server app/removed")


SCENARIO = Scenario(
    name="drain-survivor",
    title="Traffic goes on to a removed server, through an old worker",
    real="HAProxy, clients that talk to both servers all the time, `disable server`, a new "
    "configuration without the server, a reload, `shutdown sessions server`.",
    injected="Nothing: the command line reaches the newest worker only, in every version.",
    expects=Expected("drain-survivor", "old worker"),
    interval_s=INTERVAL_S,
    play=play,
)
