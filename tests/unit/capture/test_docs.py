"""docs/capture-format.md says what the code does: its tables are made from it.

``python -m tests.unit.capture.test_docs`` writes them anew.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

from hatrace.capture import columns
from hatrace.capture.format import KINDS, VERSION, is_packed
from hatrace.model.flow import FIELDS, LAYOUT, Condition, Flag
from tests import factories as make

PAGE = Path(__file__).parents[3] / "docs/capture-format.md"


def channels() -> Iterator[str]:
    yield "| topic | encoding | what |"
    yield "| --- | --- | --- |"
    for topic, kind in KINDS.items():
        words = " ".join((kind.__doc__ or "").split())
        what = words.split(". ")[0].rstrip(".") if not words.startswith(kind.__name__ + "(") else ""
        encoding = "hatrace-flows" if is_packed(kind) else "json"
        yield f"| `{topic}` | `{encoding}` | {what.replace('``', '`')} |"


def fields() -> Iterator[str]:
    yield "| offset | bytes | field | unit | meaning |"
    yield "| ---: | ---: | --- | --- | --- |"
    offset = 0
    for field in FIELDS:
        size = struct.calcsize(field.code)
        yield f"| {offset} | {size} | `{field.name}` | {field.unit} | {field.text} |"
        offset += size
    yield f"| {offset} | {LAYOUT.size - offset} | | | padding |"


def flags() -> Iterator[str]:
    yield ", ".join(f"`{flag.name.lower()}` {flag.value}" for flag in Flag if flag.name) + "."


TABLES = {"channels": channels, "fields": fields, "flags": flags}


def filled(page: str) -> str:
    for name, rows in TABLES.items():
        inside = "\n".join(rows())
        page = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)",
            lambda match, inside=inside: f"{match[1]}{inside}\n{match[2]}",
            page,
            flags=re.DOTALL,
        )
    return page


def test_its_tables_are_those_of_the_code() -> None:
    page = PAGE.read_text()
    assert all(f"<!-- {name} -->" in page for name in TABLES)
    assert filled(page) == page


def test_it_names_the_version_and_every_condition() -> None:
    page = PAGE.read_text()
    assert page.startswith(f"# The capture format, version {VERSION}\n")
    table = page.split("## Conditions")[1].split("## ")[0]
    assert re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE) == [c.value for c in Condition]


def test_its_example_reads_flows() -> None:
    """The Python on the page, run."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    space: dict[str, object] = {"struct": struct}
    exec(code, space)
    flows = [make.ended(make.flow(n)) for n in range(5)]
    records = [flow.pack() for flow in flows]
    read = space["records"]
    assert callable(read)
    assert read(columns.pack(make.columns(flows), 5)) == records
    assert read(columns.pack(make.columns([]), 0)) == []


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
