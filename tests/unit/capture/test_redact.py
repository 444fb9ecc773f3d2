"""A redacted capture: nothing of the original survives in it, and everything still joins."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from mcap.reader import make_reader

from hatrace.capture.reader import read
from hatrace.capture.redact import _KEPT, _RULES, KEPT_NAMES, Redactor
from hatrace.capture.writer import Writer
from hatrace.model.address import packed, printable
from hatrace.model.capture_info import Scope, ScopeKind
from hatrace.model.columns import Columns
from hatrace.model.event import (
    EVENTS,
    Event,
)
from hatrace.model.flow import Flow, flows
from tests import factories as make
from tests.unit.capture import samples

SECRET = make.info(
    host="edge-secret-7",
    scope=Scope(ScopeKind.COMM, ("secretd",)),
    command_line=(
        "hatrace",
        "record",
        "--comm",
        "secretd",
        "--pid=812",
        "-o",
        "/srv/secret.hatrace",
    ),
)


def content(path: Path) -> bytes:
    """All that is in the file, decompressed."""
    with path.open("rb") as stream:
        reader = make_reader(stream)
        parts = [repr(record.metadata).encode() for record in reader.iter_metadata()]
        parts += [message.data for _, _, message in reader.iter_messages()]
    return b"\n".join(parts)


def texts(value: Any, kept: bool = False) -> Iterator[str | bytes]:
    """Every string, and every address, in a value; not those whose field is kept."""
    if isinstance(value, Flow):
        yield from (value.laddr, value.raddr, value.comm)
    elif isinstance(value, Enum) or kept:
        return
    elif isinstance(value, str | bytes):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from texts(part)
    elif isinstance(value, dict):
        yield from texts([value[key] for key in value if not str(value[key]).isdigit()])
    elif isinstance(value, Columns):
        yield from texts(list(value))
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            if field.name == "records":
                yield from texts(list(flows(value.records)))
            else:
                part = getattr(value, field.name)
                yield from texts(part, (type(value), field.name) in _KEPT)


def harmless(text: str | bytes) -> bool:
    if isinstance(text, bytes):
        return printable(text) in ("0.0.0.0", "::") or len(text) != 16
    return text in KEPT_NAMES or text in ("UP", "/") or text.startswith("2.6")


def spellings(text: str | bytes) -> list[bytes]:
    if isinstance(text, str):
        return [text.encode()]
    return [text, base64.b64encode(text), printable(text).encode()]


def test_nothing_of_the_original_survives_anywhere(tmp_path: Path) -> None:
    path, redactor = tmp_path / "a.hatrace", Redactor()
    named = {"backend": "shop-secret", "server": "app-secret", "frontend": "secret-in"}
    events = [
        *samples.events(),
        make.servers(0, make.server("app-secret", backend="shop-secret")),
        make.streams(0, make.stream(**named)),
        make.descriptors(0, make.descriptor(5, server="shop-secret/app-secret")),
        make.finished(make.ended(make.flow(comm="secretd"))),
        make.trouble(0, why="cannot read /etc/secret.cfg: No such file or directory"),
    ]
    with Writer(path, redactor.info(SECRET)) as writer:
        for event in redactor.events(events):
            writer.write(event)
    everything = content(path)
    originals = {text for text in texts(events) if not harmless(text)}
    assert len(originals) > 20
    for text in originals | {"secretd", "edge-secret-7", "secret", "192.0.2", "198.51"}:
        for spelling in spellings(text):
            if len(spelling) > 2:
                assert spelling not in everything, text
    again = read(path)
    assert again.info.redacted
    assert [type(event) for event in again.events] == [type(event) for event in events]


@pytest.mark.parametrize("text", ["192.0.2.1", "2001:db8::5", "10.1.2.3"])
def test_an_address_becomes_one_printable_address(text: str) -> None:
    redactor = Redactor()
    token = redactor.address(packed(text))
    assert token == redactor.address(packed(text)) != packed(text)
    assert len(token) == 16
    assert printable(token).startswith("2001:db8:4:" if "." in text else "2001:db8:6:")
    assert Redactor().address(packed(text)) != token


@pytest.mark.parametrize("text", ["127.0.0.1", "::1", "0.0.0.0", "::", "127.0.0.53"])
def test_loopback_and_unspecified_addresses_stay(text: str) -> None:
    assert Redactor().address(packed(text)) == packed(text)


def test_what_joined_still_joins() -> None:
    redactor = Redactor()
    flow = make.flow(comm="appserver")
    (again,) = redactor.event(make.finished(make.ended(flow))).flows
    server = redactor.event(make.servers(0)).servers[0]
    assert again.raddr == server.address == server.check_address
    assert (again.rport, again.pid, again.inode) == (flow.rport, flow.pid, flow.inode)
    assert redactor.event(make.holders(0, p7="appserver")).names[7] == again.comm
    descriptor = redactor.event(make.descriptors(0, make.descriptor(11))).descriptors[0]
    assert descriptor.server == server.label
    stream = redactor.event(make.streams(0, make.stream(backend="be", server="s1"))).streams[0]
    assert (stream.backend, stream.server) == (server.backend, server.name)
    assert stream.source == f"[{printable(redactor.address(packed(make.CLIENT)))}]:50000"


def test_the_master_socket_is_still_found_by_its_kernel_name() -> None:
    event = Redactor().event(make.master_connections(0, clients=1))
    path = event.sockets[0].path
    assert path.startswith("/x")
    assert event.unix[0].path == f"{path}.{make.MASTER}.tmp"


def test_what_a_reader_needs_stays() -> None:
    redactor = Redactor()
    info = redactor.info(SECRET)
    assert info.command_line[0] == "hatrace"
    assert info.command_line[2::2] == ("--comm", "--pid=812", info.command_line[6])
    assert info.kernel == SECRET.kernel
    values = redactor.event(make.info_sample(0, node="lb1", CurrConns="12")).values
    assert (values["CurrConns"], values["Version"]) == ("12", "2.6.12")
    trouble = redactor.event(make.trouble(0, why="connect to /run/x.sock: Permission denied"))
    assert trouble.why.startswith("Permission denied x")
    process = redactor.event(make.processes(0)).processes[0]
    assert (process.comm, process.root, process.version) == ("haproxy", "/", "2.6.12")


def test_a_value_glued_to_its_option_is_no_option() -> None:
    words = Redactor().words("client -usecret -psecret --pass=secret -osecret.hatrace -t 5s")
    assert "secret" not in words
    kept = "--check-events -d 9s -Ws -f -sf 812"
    assert Redactor().words(kept) == kept


def test_a_tracked_servers_state_does_not_name_the_other() -> None:
    event = Redactor().event(make.servers(0, make.server(status="MAINT (via be2/secret)")))
    assert event.servers[0].status == "MAINT"


def test_the_key_is_in_no_capture(tmp_path: Path) -> None:
    key = bytes(range(32))
    redactor, path = Redactor(key), tmp_path / "a.hatrace"
    with Writer(path, redactor.info(SECRET)) as writer:
        writer.write(redactor.event(samples.events()[0]))
    everything = content(path)
    for spelling in (key, key.hex().encode(), base64.b64encode(key)):
        assert spelling not in everything


def test_every_rule_names_a_field_that_exists() -> None:
    for kind, name in [*_KEPT, *_RULES]:
        assert name in {field.name for field in dataclasses.fields(kind)}, (kind, name)


def test_the_fold_is_untouched_by_an_event_without_names() -> None:
    redactor = Redactor()
    same: list[Event] = [event for event in samples.events() if not list(texts(event))]
    assert len(same) >= 4
    assert list(redactor.events(same)) == same
    assert set(map(type, same)) < set(EVENTS)
