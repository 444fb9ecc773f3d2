"""healthy-websockets: upgraded connections that live long and say little."""

from __future__ import annotations

from hatrace.lab.peers import Call, Serve
from hatrace.lab.scenarios._healthy import healthy

CONFIG = """    maxconn 2000
defaults
    mode http
    timeout connect 2s
    timeout client 3s
    timeout server 3s
    timeout tunnel 1h
frontend fe
    bind 127.0.0.1:{front}
    default_backend app
backend app
    option httpchk GET /health
    server s1 127.0.0.1:{one} check inter 1s
    server s2 127.0.0.1:{two} check inter 1s
"""
UPGRADE = (
    "GET /chat HTTP/1.1\r\nHost: lab\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

SCENARIO = healthy(
    "websockets",
    "WebSockets that live long and say little",
    "HTTP upgrades through HAProxy, on the port that is checked, too: thirty that never say a "
    "word, ten that do every five seconds, some that come and go.",
    CONFIG,
    lambda ports: [Serve("websocket", ports["one"]), Serve("websocket", ports["two"])],
    lambda ports, _: [
        Call("upgrade", ports["front"], per_second=10, count=30, send=UPGRADE),
        Call("upgrade", ports["front"], per_second=1, count=10, send=UPGRADE, seconds=5),
        Call("close", ports["front"], per_second=2, send=UPGRADE, seconds=2),
    ],
)
