"""The peers do what their names say, seen from the other end of real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from hatrace.errors import EnvironmentLacks
from hatrace.lab.clients import CALLING
from hatrace.lab.peers import Call, Serve, start
from hatrace.lab.servers import ACCEPTING, SERVING
from hatrace.lab.stage import Stage

REQUEST = b"GET / HTTP/1.1\r\n\r\n"


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


@pytest.fixture(scope="module")
def servers(stage: Stage) -> dict[str, int]:
    """Every behaviour of a server, and its port."""
    ports = {name: stage.port() for name in (*SERVING, *ACCEPTING)}
    start(stage, [Serve(name, port) for name, port in ports.items()], "all-servers")
    return ports


def talk(port: int, say: bytes) -> list[bytes | str]:
    """What comes back, piece by piece: ``end``, ``reset`` or ``silence`` is the last."""
    heard: list[bytes | str] = []
    with socket.create_connection(("127.0.0.1", port), timeout=5) as link:
        link.sendall(say)
        link.settimeout(0.5)
        try:
            while data := link.recv(65536):
                heard.append(data)
        except TimeoutError:
            return [*heard, "silence"]
        except ConnectionResetError:
            return [*heard, "reset"]
    return [*heard, "end"]


@pytest.mark.parametrize(
    ("behaviour", "say", "heard"),
    [
        ("echo", b"ping", [b"ping", "silence"]),
        ("http", REQUEST, [b"HTTP/1.1 200 OK", "end"]),
        ("http-keep-alive", REQUEST, [b"HTTP/1.1 200 OK", "silence"]),
        ("http-error", REQUEST, [b"HTTP/1.1 500 Internal", "end"]),
        ("agent", b"", [b"up 100%\n", "end"]),
        ("silent", b"ping", ["silence"]),
        ("half-close", b"ping", [b"ping", "end"]),
        ("reset", b"ping", ["reset"]),
        ("hold", b"ping", ["silence"]),
        ("stop-accepting", REQUEST, [b"HTTP/1.1 200 OK", "end"]),
        ("answer-and-keep", REQUEST, [b"HTTP/1.1 200 OK", "silence"]),
        ("never-accept", b"ping", ["silence"]),
    ],
)
def test_a_server_behaves(
    servers: dict[str, int], behaviour: str, say: bytes, heard: list[bytes | str]
) -> None:
    got = talk(servers[behaviour], say)
    assert got[-1] == heard[-1]
    assert [piece[:12] for piece in got[:-1]] == [piece[:12] for piece in heard[:-1]]


def test_it_stops_accepting(stage: Stage) -> None:
    port = stage.port()
    start(stage, [Serve("stop-accepting", port, most=2)], "stops")
    assert [talk(port, REQUEST)[-1] for _ in range(3)] == ["end", "end", "silence"]


def test_close_says_nothing(servers: dict[str, int]) -> None:
    assert talk(servers["close"], b"") == ["end"]


def test_a_stream_goes_on(servers: dict[str, int]) -> None:
    with socket.create_connection(("127.0.0.1", servers["stream"]), timeout=5) as link:
        assert sum(len(link.recv(1024)) for _ in range(3)) > 1024


@pytest.mark.parametrize(
    ("behaviour", "ends"),
    [
        ("close", "end"),
        ("half-close", "end"),
        ("reset", "reset"),
        ("leave", "end"),
        ("read", "silence"),
        ("hold", "silence"),
        ("keep-alive", "end"),
        ("talk", "end"),
    ],
)
def test_a_client_behaves(stage: Stage, behaviour: str, ends: str) -> None:
    """Accept one, answer its first data, see how it ends."""
    assert behaviour in CALLING
    with socket.create_server(("127.0.0.1", stage.port())) as listener:
        listener.settimeout(10)
        where = listener.getsockname()[1]
        seconds = 0.3 if behaviour == "talk" else 0.0
        start(stage, [Call(behaviour, where, count=1, seconds=seconds)], f"client-{behaviour}")
        link, _ = listener.accept()
        with link:
            assert ending(link) == ends


def ending(link: socket.socket) -> str:
    link.settimeout(1.5)
    try:
        while data := link.recv(100):
            assert data.startswith(b"ping\n")
            link.sendall(b"pong\n")
    except TimeoutError:
        return "silence"
    except ConnectionError:
        return "reset"
    return "end"


def everyone_who_connects(listener: socket.socket) -> int:
    """How many come, until nobody did for 0.7 s; all are kept until then."""
    listener.settimeout(0.7)
    links = []
    with pytest.raises(TimeoutError):
        while True:
            links.append(listener.accept()[0])
    for link in links:
        link.close()
    return len(links)


def test_unix_clients_and_their_count(stage: Stage) -> None:
    path = stage.directory / "x.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        start(stage, [Call("hold", str(path), per_second=50, count=3)], "unix-clients")
        assert everyone_who_connects(listener) == 3


def test_no_more_than_most_at_once(stage: Stage) -> None:
    with socket.create_server(("127.0.0.1", stage.port())) as listener:
        port = listener.getsockname()[1]
        start(stage, [Call("hold", port, per_second=100, most=5)], "many")
        assert everyone_who_connects(listener) == 5


def test_a_port_that_is_taken_is_said(stage: Stage) -> None:
    port = stage.port()
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(EnvironmentLacks, match="Address already in use"),
    ):
        start(stage, [Serve("echo", port)], "taken")
