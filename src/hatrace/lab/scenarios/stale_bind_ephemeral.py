"""stale-bind without a listener: a connection's source port is what a new frontend wants."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

from hatrace.errors import EnvironmentLacks
from hatrace.lab import haproxy
from hatrace.lab.haproxy import HAProxy
from hatrace.lab.peers import Call, Serve, start
from hatrace.lab.scenario import Expected, Running, Scenario
from hatrace.lab.stage import Stage, wait_until

INTERVAL_S = 3.0
CHANGED_AFTER_S = 3.0
"""Later than what a start may have read."""

CONFIG = """    maxconn 500
defaults
    mode tcp
    timeout connect 2s
    timeout client 1h
    timeout server 1h
frontend today
    bind 127.0.0.1:{today}
    default_backend app
backend app
    server s1 127.0.0.1:{service} check inter 1s
"""
NEW = """frontend new
    bind 127.0.0.1:{new}
    default_backend app
"""


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: a session, and then a frontend on the port that its server side comes from."""
    stage.enter_network({})
    ports = {name: stage.port() for name in ("today", "service")}
    start(stage, [Serve("echo", ports["service"])], "servers")
    instance = haproxy.start(stage, CONFIG.format(**ports), binary)
    worker = instance.worker()
    start(stage, [Call("talk", ports["today"], count=1)], "clients")
    wait_until(lambda: len(source_ports(stage, ports["service"])) == 1)
    (new,) = source_ports(stage, ports["service"])
    time.sleep(CHANGED_AFTER_S)
    haproxy.configure(instance, (CONFIG + NEW).format(new=new, **ports))
    fail_to_reload(stage, instance)
    return Running(instance, {**ports, "new": new, "worker": worker})


def source_ports(stage: Stage, port: int) -> list[int]:
    """Of the sessions to a server, in a network of HAProxy's own; checks are over at once."""
    rows = stage.output(["ss", "-Htn", "state", "established", f"dport = :{port}"]).splitlines()
    return [int(row.split()[2].rpartition(":")[2]) for row in rows]


def fail_to_reload(stage: Stage, instance: HAProxy) -> None:
    """What the operator does; raises EnvironmentLacks if it works."""
    log = stage.directory / "haproxy.log"
    os.kill(instance.pid, signal.SIGUSR2)
    if not wait_until(lambda: re.search("cannot bind socket", log.read_text()) is not None):
        raise EnvironmentLacks("the lab's reload did not fail", stage.tail("haproxy.log"))


SCENARIO = Scenario(
    name="stale-bind-ephemeral",
    title="A reload fails: a connection's source port is what the new frontend binds",
    real="HAProxy, a client that talks, a configuration with one frontend more, a reload that "
    'fails with "Address already in use".',
    injected="The new frontend's port is chosen to be the source port of HAProxy's own connection "
    "to its server, in a network namespace of its own; in life that is an accident.",
    expects=Expected("stale-bind", "ephemeral source port"),
    interval_s=INTERVAL_S,
    play=play,
)
