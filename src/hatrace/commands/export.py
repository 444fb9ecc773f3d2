"""``hatrace export``: a capture's flows or findings as rows, for other tools."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from hatrace.capture.format import SOURCE
from hatrace.capture.reader import Capture, read
from hatrace.commands._output import destination
from hatrace.model.event import Event, Trouble
from hatrace.sinks.export.printers import write_csv, write_jsonl
from hatrace.sinks.export.rows import Row, finding_rows, flow_rows
from hatrace.sinks.text import escape

PRINTERS = {"jsonl": write_jsonl, "csv": write_csv}


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--format", "style", type=click.Choice(list(PRINTERS)), default="jsonl", show_default=True
)
@click.option(
    "--what",
    type=click.Choice(["flows", "findings"]),
    default="flows",
    show_default=True,
    help="flows: every finished one, and suspects still open; findings: as concluded live.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="A file; stdout if not given."
)
@click.option("--force", is_flag=True, help="Overwrite the file.")
def command(file: Path, style: str, what: str, output: Path | None, force: bool) -> None:
    """Rows of the capture FILE for other tools: a line for each flow, or for each finding."""
    capture = read(file)
    with destination(output, force) as stream:
        PRINTERS[style](_rows(capture, what), stream)


def _rows(capture: Capture, what: str) -> Iterable[Row]:
    if what == "findings":
        return finding_rows(capture.info, capture.findings)
    return flow_rows(capture.info, _with_warnings(capture.events))


def _with_warnings(events: Iterable[Event]) -> Iterator[Event]:
    """Says on stderr what the capture itself says is missing from it."""
    for event in events:
        if isinstance(event, Trouble) and event.source == SOURCE:
            click.echo(f"hatrace: {escape(event.subject)}: {escape(event.why)}", err=True)
        yield event
