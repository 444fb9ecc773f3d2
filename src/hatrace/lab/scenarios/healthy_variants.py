"""healthy-variants: settings of real proxies that no other look-alike has."""

from __future__ import annotations

import subprocess
from pathlib import Path

from hatrace.errors import EnvironmentLacks
from hatrace.lab import builds, haproxy
from hatrace.lab.peers import Call, Serve, start
from hatrace.lab.scenario import Running, Scenario
from hatrace.lab.scenarios._healthy import GET
from hatrace.lab.stage import Stage

CONFIG = """    maxconn 2000
    nbthread 2
    set-dumpable
    tune.ssl.default-dh-param 2048
defaults
    timeout connect 1s
    timeout client 20s
    timeout server 20s
    timeout http-keep-alive 3s
    timeout http-request 8s
    timeout check 2s
    retries 3
    option redispatch
    option splice-auto
    default-server inter 1s

# Limits that are reached: connections wait in the kernel's queue.
frontend full
    mode tcp
    maxconn 10
    bind 127.0.0.1:{full}
    default_backend echo
frontend full2
    mode tcp
    bind 127.0.0.1:{full2} maxconn 5
    default_backend echo

# Servers that are not there, do not accept, or reset; one checked once a minute, one that tracks.
frontend retries
    mode http
    bind 127.0.0.1:{retries}
    default_backend retries
backend retries
    mode http
    retry-on all-retryable-errors
    server dead 127.0.0.1:{dead}
    server deaf 127.0.0.1:{deaf} check fall 100
    server resets 127.0.0.1:{resets}
    server ok 127.0.0.1:{kept} check inter 60s tfo
    server bk 127.0.0.1:{kept} backup track retries/ok
frontend silent
    mode tcp
    bind 127.0.0.1:{drop}
    tcp-request connection silent-drop
frontend proxied
    mode tcp
    bind 127.0.0.1:{proxied} accept-proxy
    default_backend echo

# UNIX sockets, on both sides.
frontend unix
    mode tcp
    bind unix@{path} mode 600
    default_backend echo
frontend tounix
    mode tcp
    bind 127.0.0.1:{tounix}
    default_backend unix
backend unix
    mode tcp
    server u1 unix@{path} check
backend echo
    mode tcp
    server s1 127.0.0.1:{echo} check on-marked-down shutdown-sessions source 127.0.0.9
backend smtp
    mode tcp
    option smtpchk
    server s1 127.0.0.1:{hangs} check
backend redis
    mode tcp
    option redis-check
    server s1 127.0.0.1:{hangs} check agent-check agent-port {hangs} agent-inter 1s

# TLS on both sides, HTTP/2 and checks over it, listeners of several threads.
frontend clear
    mode http
    option http-server-close
    bind 127.0.0.1:{clear} {shards}
    default_backend tls
backend tls
    mode http
    http-reuse always
    option httpchk
    server h2 127.0.0.1:{h2} ssl verify none alpn h2 check check-alpn h2
    server h1 127.0.0.1:{h1} ssl verify none check
    server clear 127.0.0.1:{h1} ssl verify none check no-check-ssl
frontend tls
    mode http
    bind 127.0.0.1:{h1} ssl crt {certificate} {shards}
    bind 127.0.0.1:{h2} ssl crt {certificate} alpn h2 {shards}
    default_backend web
backend web
    mode http
    option abortonclose
    server s1 127.0.0.1:{kept} check
"""
PORTS = ("full", "full2", "retries", "dead", "deaf", "resets", "kept", "drop", "proxied",
         "tounix", "echo", "hangs", "clear", "h1", "h2")  # fmt: skip


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: clients of every frontend that stay, leave, end their half or abort."""
    ports = {name: stage.port() for name in PORTS}
    path = stage.directory / "front.sock"
    start(
        stage,
        [
            Serve("never-accept", ports["deaf"], backlog=1),
            Serve("reset", ports["resets"]),
            Serve("http-keep-alive", ports["kept"]),
            Serve("echo", ports["echo"]),
            Serve("silent", ports["hangs"]),
        ],
        "servers",
    )
    config = CONFIG.format(
        path=path,
        certificate=certificate(stage.directory),
        shards="" if builds.version(binary or builds.system()).startswith("2.2") else SHARDS,
        **ports,
    )
    instance = haproxy.start(stage, config, binary)
    web = [
        Call(behaviour, ports[port], per_second=2, send=GET)
        for port in ("retries", "clear")
        for behaviour in ("keep-alive", "leave", "reset", "half-close")
    ]
    tcp = [
        Call(behaviour, ports["tounix"], per_second=2)
        for behaviour in ("close", "leave", "half-close")
    ]
    start(
        stage,
        [
            *web,
            *tcp,
            Call("hold", ports["full"], per_second=5, count=16),
            Call("hold", ports["full2"], per_second=5, count=16),
            Call("hold", ports["retries"], send="GET / HT", seconds=12, most=20),
            Call("hold", ports["drop"], seconds=5),
            Call("hold", ports["proxied"], send="", seconds=12),
            Call("hold", str(path), per_second=10, count=30, send=""),
            Call("hold", ports["h1"], send="", seconds=12),
            Call("close", ports["h1"], send="no TLS"),
        ],
        "clients",
    )
    return Running(instance, ports)


SHARDS = "shards by-thread"


def certificate(directory: Path) -> Path:
    """One of its own, for a day; raises EnvironmentLacks without openssl."""
    key, signed, both = (directory / name for name in ("lab.key", "lab.crt", "lab.pem"))
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    words += ["-subj", "/CN=lab", "-keyout", str(key), "-out", str(signed)]
    try:
        subprocess.run(words, check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise EnvironmentLacks(
            "no certificate for the lab", str(error), "apt-get install openssl"
        ) from error
    both.write_text(signed.read_text() + key.read_text())
    return both


SCENARIO = Scenario(
    name="healthy-variants",
    title="Healthy: limits that are reached, retries, UNIX sockets, TLS, HTTP/2, shards",
    real="Frontends at their `maxconn`, `retry-on` with servers that are dead, deaf or reset, "
    "`silent-drop`, `accept-proxy`, UNIX sockets on both sides, TLS on both sides with HTTP/2 "
    "and checks over it, `shards by-thread`, checks once a minute, a server that tracks.",
    injected="Nothing.",
    expects=None,
    interval_s=10.0,
    play=play,
)
