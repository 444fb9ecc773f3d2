"""Rows as JSON lines or as CSV.

JSON is pure ASCII.  In CSV, control characters are made visible, and a text that a
spreadsheet would take for a formula gets an apostrophe in front (OWASP, "CSV injection").
An empty cell means unknown; zero is zero.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterable
from typing import Any, TextIO

from hatrace.sinks.export.rows import Row
from hatrace.sinks.text import escape


def write_jsonl(rows: Iterable[Row], stream: TextIO) -> None:
    """One object a line."""
    for row in rows:
        stream.write(json.dumps(row, separators=(",", ":")) + "\n")


def write_csv(rows: Iterable[Row], stream: TextIO) -> None:
    """RFC 4180 with a header line; lists are joined by spaces, objects are JSON."""
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        return
    writer = csv.DictWriter(stream, fieldnames=list(first), lineterminator="\r\n")
    writer.writeheader()
    for row in itertools.chain([first], rows):
        writer.writerow({key: _cell(value) for key, value in row.items()})


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
        return _text(" ".join(value))
    return _text(json.dumps(value, separators=(",", ":")))


def _text(value: str) -> str:
    plain = escape(value)
    return f"'{plain}" if plain[:1] in ("=", "+", "-", "@") else plain
