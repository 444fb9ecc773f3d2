"""Record what a real HAProxy answers, as test data: ``record.py /path/to/haproxy FOLDER``.

Starts that binary in master-worker mode on loopback with peers that hold, answer and hang,
keeps client sessions open, reloads once, and writes each answer to FOLDER as HAProxy sent it.
The files in the folders beside this one came from Debian's own builds of HAProxy.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

BASE = int(os.environ.get("HATRACE_PORTS", "22000"))

OFFSETS = {
    "fe_tcp": 0,
    "fe_http": 1,
    "tcp_cli": 2,
    "fe_stuck": 3,
    "echo": 10,
    "http": 11,
    "hang": 13,
    "agent": 14,
    "dead": 15,
}

CONFIG = """\
global
    stats socket {d}/stats.sock mode 600 level admin
    stats socket 127.0.0.1:{tcp_cli} level operator
    nbthread 2
    hard-stop-after 30s

defaults
    timeout connect 2s
    timeout client 1m
    timeout server 1m
    timeout check 1s

frontend fe_tcp
    mode tcp
    bind 127.0.0.1:{fe_tcp}
    default_backend be_tcp

frontend fe_stuck
    mode tcp
    bind 127.0.0.1:{fe_stuck}
    default_backend be_stuck

frontend fe_http
    mode http
    bind 127.0.0.1:{fe_http}
    default_backend be_http

backend be_tcp
    mode tcp
    server s0 127.0.0.1:{echo} check inter 500ms
    server s1 127.0.0.1:{echo} check inter 500ms port {http} backup
    server s2 127.0.0.1:{dead} check inter 500ms fastinter 300ms downinter 700ms
    server s3 127.0.0.1:{echo} disabled

backend be_stuck
    mode tcp
    option tcp-check
    tcp-check expect string hi
    timeout check 30s
    server t0 127.0.0.1:{hang} check inter 900ms agent-check agent-port {hang} agent-inter 900ms

backend be_http
    mode http
    option httpchk GET /
    http-reuse always
    server h0 127.0.0.1:{http} check inter 500ms
    server h1 127.0.0.1:{echo} check inter 500ms port {http} addr 127.0.0.2 backup
    server h2 127.0.0.1:{http} check inter 700ms agent-check agent-port {agent} agent-inter 900ms
    server h3 127.0.0.1:{hang} check inter 900ms
    server h4 [::1]:{http} check inter 900ms
    server h5 127.0.0.1:{http}

backend be_slow
    mode http
    option httpchk GET /
    timeout check 30s
    server w0 127.0.0.1:{hang} check inter 900ms
"""


def serve(port: int, answer: bytes | None, echo: bool = False) -> None:
    """A peer: ``answer`` each connection that says something (agents: at once), or hang."""
    listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)

    def talk(peer: socket.socket) -> None:
        with contextlib.suppress(OSError), peer:
            if port == BASE + 14 and answer:
                peer.sendall(answer)
                return
            if port == BASE + 13:
                time.sleep(60)  # holds what it accepted, whatever the other side does
            while data := peer.recv(4096):
                if echo:
                    peer.sendall(data)
                elif answer:
                    peer.sendall(answer)

    def accept() -> None:
        while True:
            peer, _ = listener.accept()
            threading.Thread(target=talk, args=(peer,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def ask(where: str | tuple[str, int], command: str) -> str:
    """One command, one connection, read to the end; a master's socket stays open after it."""
    kind = socket.AF_UNIX if isinstance(where, str) else socket.AF_INET
    with socket.socket(kind) as client:
        client.settimeout(5)
        client.connect(where)
        client.sendall(command.encode() + b"\n")
        parts = []
        while data := client.recv(65536):
            parts.append(data)
            if str(where).endswith("master.sock") and _complete(b"".join(parts)):
                break
    return b"".join(parts).decode(errors="replace")


def _complete(answer: bytes) -> bool:
    return (
        answer == b"\n" or answer.endswith(b"\n\n") or answer.startswith(b"Can't find the target")
    )


def check_feed(stats: str, seconds: float) -> str:
    """HAProxy's own live feed of checks, some seconds of it."""
    lines = (
        "trace check sink buf0; trace check level state; trace check verbosity minimal;"
        " trace check start now; show events buf0 -w -n\n"
    )
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(0.2)
        client.connect(stats)
        client.sendall(lines.encode())
        text, end = b"", time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(TimeoutError):
                data = client.recv(65536)
                if not data:
                    break
                text += data
    ask(stats, "trace check stop now")
    return text.decode(errors="replace")


def with_checks(stats: str) -> str:
    """`show fd` at a moment when an http check, a tcp check and an agent check are running."""
    for _ in range(100):
        answer = ask(stats, "show fd")
        if answer.count("=be_stuck/t0 ") >= 3 and "=be_slow/w0 " in answer:
            break
        if answer.count("=t0/be_stuck ") >= 3 and "=w0/be_slow " in answer:
            break
        time.sleep(0.1)
    return answer


def wait_for(path: Path) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if ask(str(path), "show info"):
                return
        time.sleep(0.1)
    raise SystemExit(f"{path}: HAProxy does not answer")


def main(binary: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    ports = {name: BASE + offset for name, offset in OFFSETS.items()}
    serve(ports["echo"], None, echo=True)
    serve(ports["http"], b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    serve(ports["hang"], None)
    serve(ports["agent"], b"up 80%\n")
    with tempfile.TemporaryDirectory(prefix="hatrace-record-") as d:
        config = Path(d, "haproxy.cfg")
        config.write_text(CONFIG.format(d=d, **ports))
        stats, master = f"{d}/stats.sock", f"{d}/master.sock"
        command = [binary, "-W", "-S", f"{master},level,admin", "-f", str(config)]
        with Path(d, "log").open("w") as log:
            haproxy = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_for(Path(stats))
            record(folder, stats, master, ports, haproxy.pid)
        finally:
            sys.stderr.write(Path(d, "log").read_text())
            haproxy.terminate()
            haproxy.wait(timeout=40)


def record(folder: Path, stats: str, master: str, ports: dict[str, int], pid: int) -> None:
    def keep(name: str, text: str) -> None:
        (folder / name).write_text(text)

    time.sleep(2.5)  # the first checks are through
    held = []
    request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
    for port, said in ((ports["fe_tcp"], b"hello"), (ports["fe_http"], request)):
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(said)
        client.recv(100)
        held.append(client)
    half = socket.create_connection(("127.0.0.1", ports["fe_stuck"]))
    half.sendall(b"x")
    time.sleep(0.2)
    half.shutdown(socket.SHUT_WR)
    time.sleep(0.5)
    for name, said in {
        "info.txt": "show info",
        "stat.csv": "show stat",
        "servers_state.txt": "show servers state",
        "servers_conn.txt": "show servers conn",
        "sess.txt": "show sess",
        "cli_sockets.txt": "show cli sockets",
        "cli_level.txt": "show cli level",
        "unknown.txt": "show nonsense",
    }.items():
        keep(name, ask(stats, said))
    keep("fd.txt", with_checks(stats))
    keep("denied.txt", ask(("127.0.0.1", ports["tcp_cli"]), "disable server be_tcp/s0"))
    keep("events.txt", check_feed(stats, 2.2))
    keep("proc.txt", ask(master, "show proc"))
    keep("master_at1_info.txt", ask(master, "@1 show info"))
    keep("master_bad_pid.txt", ask(master, "@!999999 show info"))
    keep("master_cli_sockets.txt", ask(master, "show cli sockets"))
    os.kill(pid, signal.SIGUSR2)
    time.sleep(3)
    after = ask(master, "show proc")
    keep("proc_reloaded.txt", after)
    old = after.partition("# old workers")[2].split()
    if old:
        keep("master_old_info.txt", ask(master, f"@!{old[0]} show info"))
        keep("master_old_sess.txt", ask(master, f"@!{old[0]} show sess"))
    for client in (*held, half):
        client.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
