"""Which AF_UNIX sockets belong to a command-line socket."""

from __future__ import annotations

from hatrace.model.event import Holder, UnixSocket
from hatrace.model.topology import CommandSocket
from hatrace.sockets.command_sockets import _identified, kernel_path, related

PATH = "/run/haproxy-master.sock"


def unix(inode: int, path: str = "", peer: int = 0, **fields: object) -> UnixSocket:
    known: dict[str, object] = {"state": 1, "queue": 0, "queue_limit": 0, "waiting": ()}
    return UnixSocket(inode=inode, path=path, peer_inode=peer, **(known | fields))  # type: ignore[arg-type]


def listener(inode: int, path: str = PATH, waiting: tuple[int, ...] = ()) -> UnixSocket:
    return unix(inode, path, state=10, waiting=waiting)


def master(path: str = PATH, **fields: int) -> CommandSocket:
    return CommandSocket(path, True, fields.pop("pid", 500), **fields)  # type: ignore[arg-type]


def inodes(*everything: UnixSocket, socket: CommandSocket | None = None) -> list[int]:
    return sorted(s.inode for s in related(everything, [socket or master()]))


def test_listener_accepted_end_client_and_who_waits() -> None:
    everything = (
        listener(1, f"{PATH}.500.tmp", waiting=(30, 0)),
        unix(2, f"{PATH}.500.tmp", peer=20),
        unix(20, peer=2),
        unix(30),
        unix(0, f"{PATH}.500.tmp", peer=30),
        unix(40, "/run/other.sock", peer=41),
        unix(41, peer=40),
        listener(50, f"{PATH}2"),
        listener(60, f"{PATH}.500.tmp.bak"),
    )
    assert inodes(*everything) == [1, 2, 20, 30]


def test_a_client_that_left_has_no_end_any_more() -> None:
    assert inodes(listener(1), unix(2, PATH, peer=0)) == [1, 2]


def test_connections_outlive_their_listener() -> None:
    """An old worker keeps what it accepted after its listener went to the new one."""
    assert inodes(unix(2, f"{PATH}.400.tmp", peer=20), unix(20, peer=2)) == [2, 20]


def test_a_listener_may_be_named_by_its_inode() -> None:
    everything = (listener(7, "relative.sock"), unix(8, "relative.sock", peer=9), unix(9, peer=8))
    assert inodes(*everything, socket=master("/srv/relative.sock", inode=7)) == [7, 8, 9]
    assert inodes(*everything, socket=master("/srv/relative.sock")) == []


def test_a_socket_without_path_matches_nothing() -> None:
    assert inodes(unix(2, peer=3), unix(3, peer=2), socket=master("")) == []


def test_configured_names() -> None:
    assert kernel_path("unix@/run/a.sock") == "/run/a.sock"
    assert kernel_path("abns@name") == "@name"
    assert kernel_path("/run/a.sock") == "/run/a.sock"


def test_the_listener_that_its_process_holds() -> None:
    found = [listener(1, f"{PATH}.400.tmp"), listener(2, f"{PATH}.500.tmp")]
    held = {1: [Holder(400, 5, 1)], 2: [Holder(500, 6, 2)]}
    assert _identified(master(), found, held).inode == 2
    assert _identified(master(pid=999), found, held).inode is None, "one of two: not said"
    assert _identified(master(pid=999), found[:1], held).inode == 1
    assert _identified(master(inode=9), found, held).inode == 9
