"""``hatrace report``: what a capture shows, as text, Markdown or JSON."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import click

from hatrace import detectors, pipeline
from hatrace.capture.reader import read
from hatrace.commands._output import destination, refuse_itself
from hatrace.flows.table import Table
from hatrace.haproxy import known_issues
from hatrace.sinks.report import as_json, markdown, text
from hatrace.sinks.report.build import Collector
from hatrace.sinks.report.content import Outcome, Report

Printer = Callable[[Report, TextIO], object]

PRINTERS: dict[str, Printer] = {
    "text": text.write,
    "markdown": lambda report, stream: stream.write(markdown.render(report)),
    "json": lambda report, stream: stream.write(as_json.render(report)),
}


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "style",
    type=click.Choice(list(PRINTERS)),
    default="text",
    show_default=True,
    help="text to read, markdown for a ticket, json for machines.",
)
@click.option("--json", "style", flag_value="json", help="The same as --format json.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="A file; stdout if not given."
)
@click.option("--force", is_flag=True, help="Overwrite the file.")
def command(file: Path, style: str, output: Path | None, force: bool) -> int:
    """What the capture FILE shows: findings first, then what they rest on.

    Exit code 1 with findings, 0 without.
    """
    report = judge(file)
    refuse_itself(output, file)
    with destination(output, force) as stream:
        PRINTERS[style](report, stream)
    return 1 if report.summary.outcome is Outcome.FINDINGS else 0


def judge(file: Path) -> Report:
    """Runs a capture through the live path."""
    capture = read(file)
    world, collector = Table(capture.info), Collector()
    pipeline.run(capture.events, world, detectors.create(known_issues.matching), [collector])
    return collector.report(world, capture.findings)
