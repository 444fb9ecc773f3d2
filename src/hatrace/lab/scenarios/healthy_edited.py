"""healthy-edited: a configuration that was changed and not loaded yet, and nothing in its way."""

from __future__ import annotations

import time
from pathlib import Path

from hatrace.lab import haproxy
from hatrace.lab.peers import Call, Serve, start
from hatrace.lab.scenario import Running, Scenario
from hatrace.lab.scenarios.stale_bind_ephemeral import CHANGED_AFTER_S, CONFIG, NEW
from hatrace.lab.stage import Stage, wait_until

AGAIN = NEW.replace("new", "again")
PORTS = ("today", "service", "again", "new")


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: a frontend is removed by a reload and its session stays with the old worker;
    then the files name it again, and one more."""
    ports = {name: stage.port() for name in PORTS}
    start(stage, [Serve("echo", ports["service"])], "servers")
    instance = haproxy.start(stage, (CONFIG + AGAIN).format(**ports), binary)
    start(stage, [Call("talk", ports["again"], count=1)], "client")
    wait_until(lambda: "fe=again " in instance.ask("show sess"))
    haproxy.configure(instance, CONFIG.format(**ports))
    old, new = instance.worker(), instance.reload()
    start(stage, [Call("close", ports["today"], per_second=5)], "clients")
    time.sleep(CHANGED_AFTER_S)
    haproxy.configure(instance, (CONFIG + AGAIN + NEW).format(**ports))
    return Running(instance, {**ports, "old": old, "worker": new})


SCENARIO = Scenario(
    name="healthy-edited",
    title="Healthy: a configuration that was changed and waits for its reload",
    real="Two frontends that the files name and nobody listens on yet; one had that port before, "
    "and the old worker still serves a session which it accepted there.",
    injected="Nothing.",
    expects=None,
    interval_s=10.0,
    play=play,
)
