"""healthy-flapping: servers that go down and come back, by every way there is."""

from __future__ import annotations

from hatrace.lab.peers import Call, Serve
from hatrace.lab.scenarios._healthy import GET, healthy

CONFIG = """    maxconn 2000
defaults
    timeout connect 1s
    timeout client 10s
    timeout server 10s
    option redispatch
    retries 2
frontend tcp
    mode tcp
    bind 127.0.0.1:{tcp}
    default_backend tcp
backend tcp
    mode tcp
    default-server inter 500ms fastinter 200ms downinter 300ms fall 2 rise 1
    server flaps 127.0.0.1:{flap} check on-marked-down shutdown-sessions
    server stays 127.0.0.1:{echo} check
    server told 127.0.0.1:{echo} agent-check agent-port {agent} agent-inter 500ms check
frontend web
    mode http
    bind 127.0.0.1:{web}
    default_backend web
backend web
    mode http
    option httpchk GET /
    http-check expect status 200
    default-server inter 500ms fall 1 rise 1 slowstart 2s
    server flaps 127.0.0.1:{http_flap} check
    server stays 127.0.0.1:{kept} check backup
"""

SCENARIO = healthy(
    "flapping",
    "servers that go down and come back all the time",
    "A server whose port closes and opens every three seconds, one that answers 200 and 503 by "
    "turns, an agent that says up, drain, down and stopped; sessions of twenty seconds meanwhile.",
    CONFIG,
    lambda ports: [
        Serve("flap", ports["flap"]),
        Serve("echo", ports["echo"]),
        Serve("agent-flap", ports["agent"], seconds=4),
        Serve("http-flap", ports["http_flap"], seconds=3),
        Serve("http-keep-alive", ports["kept"]),
    ],
    lambda ports, _: [
        Call("talk", ports["tcp"], per_second=1, seconds=20, most=20),
        Call("close", ports["tcp"], per_second=5),
        Call("keep-alive", ports["web"], per_second=2, send=GET, seconds=0.5),
    ],
    interval_s=8.0,
)
