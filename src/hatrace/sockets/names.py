"""Names from outside, made safe to print, and the names of processes.

A process chooses its own command line, a client its own socket's path: both may hold
terminal escapes.
"""

from __future__ import annotations

from pathlib import Path

COMM_BYTES = 16
_LONGEST = 256


def printable(raw: bytes | str) -> str:
    r"""Every control, format or undecodable character as ``\xNN`` or ``\uNNNN``."""
    text = raw.decode(errors="backslashreplace") if isinstance(raw, bytes) else raw
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def comm_bytes(pid: int) -> bytes:
    """comm of a process, NUL-padded to 16 bytes as the kernel keeps it; NULs when it is gone."""
    try:
        raw = Path(f"/proc/{pid}/comm").read_bytes()
    except OSError:
        raw = b""
    return raw.removesuffix(b"\n")[: COMM_BYTES - 1].ljust(COMM_BYTES, b"\0")


def comm(pid: int) -> str:
    """comm of a process, safe to print; empty when it is gone."""
    return printable(comm_bytes(pid).rstrip(b"\0"))


def command_line(pid: int, longest: int = _LONGEST) -> str:
    """A process's command line, safe to print, cut at ``longest`` characters; else its comm.

    Kernel threads and zombies have none.
    """
    try:
        with Path(f"/proc/{pid}/cmdline").open("rb") as file:
            raw = file.read(4 * longest)
    except OSError:
        raw = b""
    words = printable(b" ".join(part for part in raw.split(b"\0") if part))
    text = words or comm(pid)
    return text if len(text) <= longest else text[: longest - 1] + "…"
