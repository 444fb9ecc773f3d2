"""A small HAProxy with one echo server behind it, for scenarios whose trouble is elsewhere."""

from __future__ import annotations

from hatrace.lab.peers import Call, Serve, start
from hatrace.lab.stage import Stage

CONFIG = """    maxconn 500
defaults
    mode tcp
    timeout connect 2s
    timeout client 10s
    timeout server 10s
frontend fe
    bind 127.0.0.1:{front}
    default_backend app
backend app
    server s1 127.0.0.1:{service} check inter 1s
"""


def plain_config(stage: Stage, traffic: bool = True) -> tuple[str, dict[str, object]]:
    """The configuration after `global`, with its peers started; and its ports."""
    front, service = stage.port(), stage.port()
    clients = [Call("close", front, per_second=4)] if traffic else []
    start(stage, [Serve("echo", service), *clients])
    return CONFIG.format(front=front, service=service), {"front": front, "service": service}
