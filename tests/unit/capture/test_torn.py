"""Torn, damaged, on a full disk: a capture gives what it holds, and says what is missing."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mcap.reader import make_reader

from hatrace.capture.reader import read
from hatrace.capture.writer import Writer
from hatrace.errors import CaptureUnreadable, EnvironmentLacks
from hatrace.model.event import Event, Tick, Trouble
from tests import factories as make
from tests.unit.capture import samples

SECONDS = 20


def events() -> list[Event]:
    """Of twenty seconds, so that there are twenty chunks."""
    return [event for second in range(SECONDS) for event in _second(second)]


def _second(second: int) -> list[Event]:
    flows = [
        make.ended(make.flow(second + n / 20, id=second * 1009 + n, inode=n, lport=40_000 + n))
        for n in range(20)
    ]
    return [make.finished(*flows, at_ns=make.at(second)), Tick(make.at(second + 0.5))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[Event]]:
    path, written = tmp_path_factory.mktemp("whole") / "a.hatrace", events()
    with Writer(path, make.info()) as writer:
        for event in written:
            writer.write(event)
    return path.read_bytes(), written


def split(found: list[Event]) -> tuple[list[Event], list[Trouble]]:
    troubles = [event for event in found if isinstance(event, Trouble)]
    return [event for event in found if not isinstance(event, Trouble)], troubles


def test_cut_anywhere_it_gives_a_beginning_and_says_so(
    whole: tuple[bytes, list[Event]], tmp_path: Path
) -> None:
    content, written = whole
    path = tmp_path / "cut.hatrace"
    lengths: list[int] = []
    for cut in range(0, len(content), max(1, len(content) // 400)):
        path.write_bytes(content[:cut])
        try:
            found, troubles = split(list(read(path).events))
        except CaptureUnreadable as error:
            assert not lengths, f"readable when shorter, not at {cut}: {error}"
            continue
        assert found == written[: len(found)]
        if len(found) < len(written):
            assert [trouble.source for trouble in troubles] == ["capture"]
        lengths.append(len(found))
    assert lengths == sorted(lengths)
    assert lengths[0] == 0
    assert lengths[-1] == len(written)


@pytest.mark.parametrize("number", [0, SECONDS // 2])
def test_a_damaged_chunk_costs_only_itself(
    whole: tuple[bytes, list[Event]], tmp_path: Path, number: int
) -> None:
    content, written = whole
    path = tmp_path / "damaged.hatrace"
    summary = make_reader(io.BytesIO(content)).get_summary()
    assert summary is not None
    chunk = summary.chunk_indexes[number]
    middle = chunk.chunk_start_offset + chunk.chunk_length // 2
    path.write_bytes(
        content[:middle]
        + bytes(b ^ 0xFF for b in content[middle : middle + 8])
        + content[middle + 8 :]
    )
    found, troubles = split(list(read(path).events))
    assert troubles
    assert len(written) * 0.8 < len(found) < len(written)
    assert found[-1] == written[-1]


def test_random_damage_never_ends_in_a_traceback(
    whole: tuple[bytes, list[Event]], tmp_path: Path
) -> None:
    content, _ = whole
    path, chance = tmp_path / "damaged.hatrace", random.Random(7)
    outcomes = set()
    for _ in range(400):
        damaged = bytearray(content)
        for _ in range(chance.choice((1, 1, 5, 50))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            capture = read(path)
            outcomes.add(any(isinstance(event, Trouble) for event in capture.events))
            list(capture.findings)
        except CaptureUnreadable:
            outcomes.add(None)
    assert outcomes >= {True, None}


FILL = """
import resource, signal, sys
from pathlib import Path
from hatrace.capture.writer import Writer
from hatrace.errors import EnvironmentLacks
from tests.unit.capture.test_torn import events
from tests import factories as make
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
try:
    with Writer(Path(sys.argv[1]), make.info()) as writer:
        for event in events():
            writer.write(event)
except EnvironmentLacks as error:
    print(error, "|", error.do)
    sys.exit(3)
"""


def test_a_tail_of_zeros_is_its_end_at_once(
    whole: tuple[bytes, list[Event]], tmp_path: Path
) -> None:
    """As after a power failure; a tebibyte of them would take days to skip."""
    content, written = whole
    path = tmp_path / "zeros.hatrace"
    path.write_bytes(content[: _whole_records(content, len(content) // 4)])
    os.truncate(path, 1 << 40)
    found, troubles = split(list(read(path).events))
    assert found == written[: len(found)] and found
    assert len(troubles) == 1 and "no end" in troubles[0].why


def _whole_records(content: bytes, limit: int) -> int:
    """Where the last whole record before ``limit`` ends."""
    at = 8
    while (following := at + 9 + int.from_bytes(content[at + 1 : at + 9], "little")) <= limit:
        at = following
    return at


def filled(path: Path, limit_bytes: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", FILL, str(path), str(limit_bytes)],
        capture_output=True, text=True, check=False, env=_environment(), timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9, 0.999])
def test_a_full_disk_keeps_what_was_gathered(
    whole: tuple[bytes, list[Event]], tmp_path: Path, part: float
) -> None:
    """The kernel refuses to let the file grow (RLIMIT_FSIZE), as a full disk does."""
    content, written = whole
    path = tmp_path / "full.hatrace"
    limit = round(len(content) * part)
    done = filled(path, limit)
    assert done.returncode == 3, done.stderr
    assert "File too large" in done.stdout
    assert "is kept in" in done.stdout
    found, troubles = split(list(read(path).events))
    assert found == written[: len(found)]
    assert len(found) >= (limit / len(content) - 0.35) * len(written)
    assert len(troubles) == 1


def test_a_disk_that_is_full_from_the_start_leaves_no_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "full.hatrace"
    done = filled(path, 20)
    assert done.returncode == 3, done.stderr
    assert "make room" in done.stdout
    assert "is kept in" not in done.stdout
    assert not path.exists()


def test_a_disk_that_takes_nothing_any_more_is_said(tmp_path: Path) -> None:
    """As after an I/O error, when the file system is read-only from one moment to the next."""
    writer = Writer(tmp_path / "a.hatrace", make.info())
    with (tmp_path / "a.hatrace").open("rb") as readable:
        os.dup2(readable.fileno(), writer._output._fd)
    with pytest.raises(EnvironmentLacks, match="cannot write"):
        for event in events():
            writer.write(event)
    writer.close()


KILLED = """
import os, signal, sys
from pathlib import Path
from hatrace.capture.writer import Writer
from tests.unit.capture.test_torn import events
from tests import factories as make
writer = Writer(Path(sys.argv[1]), make.info())
for event in events():
    writer.write(event)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_costs_at_most_the_last_second(
    whole: tuple[bytes, list[Event]], tmp_path: Path
) -> None:
    path = tmp_path / "killed.hatrace"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)], check=False, env=_environment(), timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    found, troubles = split(list(read(path).events))
    assert found == whole[1][: len(found)]
    assert found[-1].at_ns >= whole[1][-1].at_ns - 1_000_000_000
    assert len(troubles) == 1


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


def test_findings_of_a_torn_capture_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.hatrace"
    writer = Writer(path, make.info())
    writer.write(Tick(make.at(0)))
    writer.found(samples.change(make.at(0)))
    writer.write(Tick(make.at(3)))
    assert list(read(path).findings) == [samples.change(make.at(0))]
    writer.close()
