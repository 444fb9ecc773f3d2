"""The answers recorded from real HAProxy processes (data/README.md)."""

from __future__ import annotations

from pathlib import Path

DATA = Path(__file__).parent / "data"
VERSIONS = ("2.2", "2.6", "3.0", "3.2")


def recorded(version: str, name: str) -> str:
    return (DATA / version / name).read_text()
