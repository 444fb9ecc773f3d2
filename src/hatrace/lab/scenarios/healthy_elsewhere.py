"""healthy-elsewhere: check ports to which more goes than the servers' own checks.

Each configuration is a HAProxy of its own, all of them watched.
"""

from __future__ import annotations

from pathlib import Path
from string import Formatter

from hatrace.lab import haproxy
from hatrace.lab.peers import Call, Serve, start
from hatrace.lab.scenario import Running, Scenario
from hatrace.lab.stage import Stage

DEFAULTS = """defaults
    timeout connect 2s
    timeout client 20s
    timeout server 20s
    timeout check 3s
    default-server check inter 1s
"""
CONNECT = """backend imap
    mode tcp
    option tcp-check
    tcp-check connect port {imap}
    tcp-check send hello
    tcp-check connect port {hangs}
    tcp-check expect string ready
    server m1 127.0.0.1:{imap}
    server m2 127.0.0.1:{imap}
    server m3 127.0.0.1:{imap}
backend web
    mode http
    option httpchk
    http-check connect port {hangs}
    http-check send meth GET uri /
    http-check expect status 200
    server a1 127.0.0.1:{kept}
    server a2 127.0.0.1:{kept}
backend watched
    server x1 127.0.0.1:{kept} port {hangs}
"""
SOCKS = """backend through
    server s1 127.0.0.1:{imap} socks4 127.0.0.1:{hangs} check-via-socks4
    server s2 127.0.0.1:{imap} socks4 127.0.0.1:{hangs} check-via-socks4
    server s3 127.0.0.1:{imap} socks4 127.0.0.1:{hangs} check-via-socks4
backend watched
    server x1 127.0.0.1:{kept} port {hangs}
"""
ANYWHERE = """frontend fe
    bind 127.0.0.1:{anywhere}
    tcp-request content set-dst ipv4(127.0.0.1)
    tcp-request content set-dst-port int({hangs})
    default_backend any
backend any
    server any 0.0.0.0:0 no-check
backend watched
    server x1 127.0.0.1:{kept} port {hangs}
"""
MAPPED = """frontend fe
    bind 127.0.0.1:{mapped}
    default_backend any
backend any
    server any 127.0.0.2 port {mapped}
"""
LUA = """
core.register_task(function()
  while true do
    local open = {{}}
    for i = 1, 4 do
      open[i] = core.tcp()
      open[i]:connect("127.0.0.1", {hangs})
    end
    core.sleep(9)
    for i = 1, 4 do open[i]:close() end
  end
end)
"""
WATCHED = "backend watched\n    server x1 127.0.0.1:{kept} port {hangs}\n"


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: five HAProxys that check a port where nobody answers, and go there otherwise."""
    texts = {"connect": CONNECT, "socks": SOCKS, "anywhere": ANYWHERE, "mapped": MAPPED}
    names = {name for text in texts.values() for _, name, _, _ in Formatter().parse(text) if name}
    ports = {name: stage.port() for name in sorted(names)}
    script = stage.directory / "sockets.lua"
    script.write_text(LUA.format(**ports))
    texts["lua"] = WATCHED
    start(
        stage,
        [
            Serve("silent", ports["hangs"]),
            Serve("silent", ports["imap"]),
            Serve("http-keep-alive", ports["kept"]),
            Serve("echo", ports["mapped"], address="127.0.0.2"),
        ],
        "servers",
    )
    instances = [
        haproxy.start(
            stage,
            (f"    lua-load {script}\n" if name == "lua" else "") + DEFAULTS + text.format(**ports),
            binary,
            name=name,
        )
        for name, text in texts.items()
    ]
    start(
        stage,
        [
            Call("hold", ports["anywhere"], per_second=1),
            Call("hold", ports["anywhere"], per_second=1, send=""),
            Call("hold", ports["mapped"], per_second=1),
            Call("hold", ports["mapped"], per_second=1, send=""),
        ],
        "clients",
    )
    return Running(instances[0], ports, tuple(one.pid for one in instances))


SCENARIO = Scenario(
    name="healthy-elsewhere",
    title="Healthy: more connections to a check port than its server's checks",
    real="`tcp-check connect port` and `http-check connect port` to another server's check port, "
    "checks through SOCKS4, sessions by `set-dst` and to servers without a port of their own, "
    "Lua sockets; nobody answers there, so each takes its time.",
    injected="Nothing.",
    expects=None,
    interval_s=10.0,
    play=play,
)
