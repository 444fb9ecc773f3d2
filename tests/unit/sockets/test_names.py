"""What others chose as a name cannot steer a terminal."""

from __future__ import annotations

import os
from pathlib import Path

from hatrace.sockets.names import comm, comm_bytes, command_line, printable

GONE = 2**22 - 1


def test_control_and_format_characters_are_spelled() -> None:
    assert printable("plain ünïcode") == "plain ünïcode"
    assert printable(b"\x1b]0;title\x07") == "\\x1b]0;title\\x07"
    assert printable("right\u202eleft") == "right\\u202eleft"
    assert printable(b"\xff\xfe") == "\\xff\\xfe"
    assert printable("line\nbreak\x9b") == "line\\x0abreak\\x9b"
    assert printable("\U000e0001") == "\\ue0001"


def test_of_this_process() -> None:
    raw = Path("/proc/self/comm").read_text().strip()
    assert comm(os.getpid()) == raw
    assert len(comm_bytes(os.getpid())) == 16 and comm_bytes(os.getpid())[15] == 0
    line = command_line(os.getpid(), longest=12)
    assert 0 < len(line) <= 12 and line.endswith("…")


def test_of_a_process_that_is_gone() -> None:
    assert comm(GONE) == "" and comm_bytes(GONE) == bytes(16) and command_line(GONE) == ""
