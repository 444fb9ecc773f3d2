"""``hatrace export``: a capture's flows or findings as rows, or the capture itself, redacted."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from hatrace import detectors, pipeline
from hatrace.capture.format import SOURCE
from hatrace.capture.reader import Capture, read
from hatrace.capture.redact import Redactor
from hatrace.capture.writer import Writer
from hatrace.commands._output import destination, refuse_itself
from hatrace.errors import UsageError
from hatrace.flows.table import Table
from hatrace.haproxy import known_issues
from hatrace.model.event import Event, Trouble
from hatrace.sinks.export.printers import write_csv, write_jsonl
from hatrace.sinks.export.rows import Row, finding_rows, flow_rows
from hatrace.sinks.stream import aside
from hatrace.sinks.text import escape

PRINTERS = {"jsonl": write_jsonl, "csv": write_csv}
CAPTURE = "hatrace"


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "style",
    type=click.Choice([*PRINTERS, CAPTURE]),
    default="jsonl",
    show_default=True,
    help="hatrace: a capture again, e.g. a redacted one.",
)
@click.option("--json", "style", flag_value="jsonl", help="The same as --format jsonl.")
@click.option(
    "--what",
    type=click.Choice(["flows", "findings"]),
    default="flows",
    show_default=True,
    help="flows: every finished one, and suspects still open; findings: as concluded live.",
)
@click.option("--redact", is_flag=True, help="Names and addresses become tokens which still join.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A file; else stdout.")
@click.option("--force", is_flag=True, help="Overwrite the file.")
def command(
    file: Path, style: str, what: str, redact: bool, output: Path | None, force: bool
) -> None:
    """Rows of the capture FILE for other tools: a line for each flow, or for each finding."""
    capture = _warning(read(file))
    refuse_itself(output, file)
    if redact:
        capture = _redacted(capture, what, style)
    if style == CAPTURE:
        _again(capture, output, force)
        return
    with destination(output, force) as stream:
        PRINTERS[style](_rows(capture, what), stream)


def _rows(capture: Capture, what: str) -> Iterable[Row]:
    if what == "findings":
        deque(capture.events, maxlen=0)  # what is missing is said among the events only
        return finding_rows(capture.info, capture.findings)
    return flow_rows(capture.info, capture.events)


def _again(capture: Capture, output: Path | None, force: bool) -> None:
    """A new capture of a replay: its findings are concluded anew."""
    if output is None:
        raise UsageError("a capture needs a file of its own", "none is given", "add -o FILE")
    with Writer(output, capture.info, force=force) as writer:
        found = detectors.create(known_issues.matching)
        pipeline.run(capture.events, Table(capture.info), found, [], writer)


def _redacted(capture: Capture, what: str, style: str) -> Capture:
    if what == "findings" and style != CAPTURE:
        raise UsageError(
            "cannot redact recorded findings",
            "their sentences quote names",
            f"make a redacted capture (--format {CAPTURE} --redact -o FILE) and export from that",
        )
    redactor = Redactor()
    return capture._replace(
        info=redactor.info(capture.info), events=redactor.events(capture.events)
    )


def _warning(capture: Capture) -> Capture:
    """Says on stderr what the capture itself says is missing from it."""

    def events() -> Iterator[Event]:
        for event in capture.events:
            if isinstance(event, Trouble) and event.source == SOURCE:
                aside(f"hatrace: {escape(event.subject)}: {escape(event.why)}")
            yield event

    return capture._replace(events=events())
