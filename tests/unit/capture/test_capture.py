"""Written, then read: by our reader, and by anybody's."""

from __future__ import annotations

import json
import os
import random
import stat
from pathlib import Path

import msgspec
import pytest
from mcap.reader import make_reader

from hatrace.capture.format import KINDS, topic
from hatrace.capture.reader import read
from hatrace.capture.writer import Writer
from hatrace.errors import CaptureUnreadable, EnvironmentLacks, UsageError
from hatrace.model.capture_info import FORMAT_VERSION, CaptureInfo
from hatrace.model.event import EVENTS, Event, Finished, LogLine, Open, Tick, Trouble
from hatrace.model.finding import FindingChange
from tests import factories as make
from tests.unit.capture import samples


def recorded(path: Path, events: list[Event], **options: int) -> Path:
    with Writer(path, make.info(), **options) as writer:
        for event in events:
            writer.write(event)
    return path


def test_every_kind_of_event_comes_back_as_it_was(tmp_path: Path) -> None:
    events = samples.events()
    assert {type(event) for event in events} == set(EVENTS)
    info, again, _ = read(recorded(tmp_path / "a.hatrace", events))
    assert info == make.info()
    assert list(again) == events


def test_events_keep_their_order_not_their_time(tmp_path: Path) -> None:
    events = [Tick(make.at(s)) for s in (5, 3, 9, 1, 9.0000001, 0)]
    assert list(read(recorded(tmp_path / "a.hatrace", events)).events) == events


def test_findings_are_recorded_beside_the_events(tmp_path: Path) -> None:
    path = tmp_path / "a.hatrace"
    with Writer(path, make.info()) as writer:
        writer.write(Tick(make.at(1)))
        writer.found(samples.change())
        writer.write(Tick(make.at(2)))
    _, events, findings = read(path)
    assert list(findings) == [samples.change()]
    assert list(events) == [Tick(make.at(1)), Tick(make.at(2))]


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = recorded(tmp_path / "a.hatrace", [])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "a.hatrace"
    path.write_text("precious")
    with pytest.raises(UsageError, match="exists"):
        Writer(path, make.info())
    assert path.read_text() == "precious"
    recorded(path, [Tick(1)], force=True)
    assert list(read(path).events) == [Tick(1)]


def test_force_does_not_write_through_a_link(tmp_path: Path) -> None:
    precious, path = tmp_path / "precious", tmp_path / "a.hatrace"
    precious.write_text("precious")
    path.symlink_to(precious)
    recorded(path, [Tick(1)], force=True)
    assert precious.read_text() == "precious"
    assert not path.is_symlink()


def test_force_does_not_replace_what_is_no_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"  # as /dev/null, which root could remove
    os.mkfifo(pipe)
    with pytest.raises(EnvironmentLacks, match="no regular file"):
        Writer(pipe, make.info(), force=True)
    assert pipe.is_fifo()


def test_a_place_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentLacks, match="No such file"):
        Writer(tmp_path / "nowhere" / "a.hatrace", make.info())


def test_names_that_are_no_utf8_become_visible(tmp_path: Path) -> None:
    text = b"caf\xe9".decode(errors="surrogateescape")
    path = recorded(tmp_path / "a.hatrace", [LogLine(1, 2, text)])
    assert list(read(path).events) == [LogLine(1, 2, "caf\ufffd")]


def test_what_was_written_is_on_disk_after_a_second(tmp_path: Path) -> None:
    """A kill -9 costs at most the events of the last second."""
    path = tmp_path / "a.hatrace"
    writer = Writer(path, make.info())
    events: list[Event] = [Tick(make.at(tenth / 10)) for tenth in range(55)]
    for event in events:
        writer.write(event)
    *ticks, trouble = read(path).events
    writer.close()
    assert ticks == events[:51]
    assert isinstance(trouble, Trouble)
    assert "no end" in trouble.why


def test_another_mcap_reader_understands_it(tmp_path: Path) -> None:
    path = recorded(tmp_path / "a.hatrace", samples.events())
    with path.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None
        assert {channel.topic for channel in summary.channels.values()} == set(KINDS)
        metadata = {record.name: record.metadata for record in reader.iter_metadata()}
        assert metadata["hatrace"]["format_version"] == str(FORMAT_VERSION)
        assert json.loads(metadata["hatrace"]["info"])["host"] == "lb1"
        for schema, channel, message in reader.iter_messages():
            assert schema is not None
            if channel.message_encoding == "json":
                assert json.loads(message.data)["at_ns"] == message.log_time
                assert json.loads(schema.data)["type"] == "object"
            else:
                assert b"born_ns" in schema.data


def test_every_channel_has_a_name_of_its_own() -> None:
    assert len(KINDS) == len(EVENTS) + 1
    assert topic(FindingChange) in KINDS
    assert "command-sockets" in KINDS


@pytest.mark.parametrize("content", [b"", b"x", b"\x89MCAP0\r\n", b"hello, world\n" * 100])
def test_what_is_no_capture_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.hatrace"
    path.write_bytes(content)
    with pytest.raises(CaptureUnreadable) as caught:
        read(path)
    assert caught.value.why
    assert caught.value.do


def test_what_is_not_there_or_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(CaptureUnreadable):
            read(path)


def test_a_newer_version_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.hatrace"
    with Writer(path, make.info(format_version=FORMAT_VERSION + 1)):
        pass
    with pytest.raises(CaptureUnreadable, match=f"version {FORMAT_VERSION + 1}"):
        read(path)


@pytest.mark.parametrize("time_ns", [-1, 1 << 63, 10**25])
def test_a_header_without_a_date_is_refused(time_ns: int, tmp_path: Path) -> None:
    path = tmp_path / "a.hatrace"
    Writer(path, make.info(started_ns=time_ns)).close()
    with pytest.raises(CaptureUnreadable, match="no clock shows"):
        read(path)


@pytest.mark.parametrize(
    "data",
    [b'{"at_ns":-5}', b'{"at_ns":%d}' % 10**25, b'{"at_ns":1,"x":%s}' % (b"[" * 99999)],
    ids=["before", "after", "deep"],
)
def test_an_event_that_nobody_could_have_written_is_left_out(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.hatrace"
    with Writer(path, make.info()) as writer:
        writer.write(Tick(1))
        writer._mcap.add_message(writer._channels[Tick], 2, data, 2)
        writer.write(Tick(3))
    first, trouble, last = read(path).events
    assert (first, last) == (Tick(1), Tick(3))
    assert isinstance(trouble, Trouble) and "cannot be understood" in trouble.why


def test_a_finding_that_nobody_could_have_written_is_missed(tmp_path: Path) -> None:
    path = tmp_path / "a.hatrace"
    with Writer(path, make.info()) as writer:
        writer.write(Tick(1))
        writer._mcap.add_message(writer._channels[FindingChange], 2, b'{"broken":1}', 2)
        writer.found(samples.change())
    _, events, findings = read(path)
    _, trouble = events
    assert isinstance(trouble, Trouble) and "finding-change" in trouble.why
    assert list(findings) == [samples.change()]


def test_fields_added_later_are_no_obstacle() -> None:
    newer = msgspec.json.encode(msgspec.to_builtins(make.info()) | {"added_later": 1})
    assert msgspec.json.decode(newer, type=CaptureInfo) == make.info()


def test_the_size_limit_sheds_detail_but_keeps_findings(tmp_path: Path) -> None:
    path, limit = tmp_path / "a.hatrace", 150_000
    with Writer(path, make.info(), max_bytes=limit) as writer:
        for second in range(400):
            done = [
                make.ended(make.flow(second + n / 50), id=hash((n, second)) % 2**64)
                for n in range(50)
            ]
            writer.write(make.finished(*done, at_ns=make.at(second)))
            writer.write(make.open_scan(make.at(second), make.flow(0)))
            writer.write(Tick(make.at(second)))
        writer.found(samples.change(make.at(400)))
        trouble = writer.trouble
    _, events, findings = read(path)
    kept = list(events)
    troubles = [event for event in kept if isinstance(event, Trouble)]
    last_finished = max(event.at_ns for event in kept if isinstance(event, Finished))
    last_open = max(event.at_ns for event in kept if isinstance(event, Open))
    assert [("near" in t.why, "reached" in t.why) for t in troubles] == [
        (True, False),
        (False, True),
    ]
    assert trouble == troubles[-1]
    assert last_finished < last_open < make.at(399)
    assert list(findings) == [samples.change(make.at(400))]
    assert path.stat().st_size < limit * 1.2


def test_without_a_limit_nothing_is_shed(tmp_path: Path) -> None:
    events: list[Event] = [Tick(make.at(second)) for second in range(50)]
    assert list(read(recorded(tmp_path / "a.hatrace", events)).events) == events


def test_a_finished_flow_costs_few_bytes(tmp_path: Path) -> None:
    """Rows instead of columns would take more than 40 of these."""
    chance = random.Random(1)
    flows = [
        make.ended(make.flow(chance.random(), id=chance.getrandbits(12)), chance.random())
        for _ in range(20_000)
    ]
    events: list[Event] = [
        make.finished(*flows[start : start + 500], at_ns=make.at(1))
        for start in range(0, 20_000, 500)
    ]
    path = recorded(tmp_path / "a.hatrace", events)
    empty = recorded(tmp_path / "empty.hatrace", [])
    assert path.stat().st_size - empty.stat().st_size < 20_000 * 24
