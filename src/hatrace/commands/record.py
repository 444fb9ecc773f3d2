"""``hatrace record``: watch this host into a capture file."""

from __future__ import annotations

import time
from pathlib import Path

import click

from hatrace.commands import _options as options
from hatrace.kernel.child import start_ahead


@click.command()
@options.scope_options
@options.duration_option
@options.json_option
@options.rung_option
@options.cost_options
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The file; hatrace-DATE-TIME.hatrace if not given.",
)
@click.option("--force", is_flag=True, help="Overwrite the file.")
@click.option(
    "--detail",
    type=click.Choice(["full", "summary"]),
    default="full",
    show_default=True,
    help="full: every finished flow, as long as there are not too many (visibly); "
    "summary: totals, suspects and findings only.",
)
@click.option(
    "--max-size",
    type=options.Size(),
    help="Keep the file below this (20m ...): detail goes first, findings never.",
)
@click.option("--redact", is_flag=True, help="Names and addresses become tokens which still join.")
@options.logs_option
@click.option(
    "--check-events",
    is_flag=True,
    help="Switch on HAProxy's own trace of checks while recording (process-wide; 2.4+).",
)
def command(
    pid: tuple[int, ...],
    comm: tuple[str, ...],
    cgroup: str | None,
    everybody: bool,
    duration: float | None,
    as_json: bool,
    rung: str | None,
    output: Path | None,
    force: bool,
    detail: str,
    max_size: int | None,
    redact: bool,
    logs: str,
    check_events: bool,
    max_cpu: float | None,
    no_bpf_stats: bool,
) -> int:
    """Watch this host without a screen, into a capture file.

    Stop it with -d, Ctrl-C or SIGTERM: what was gathered is kept.  Exit code 1 with findings.
    """
    start_ahead(rung)
    from hatrace.commands._session import Settings, watch

    output = output or Path(time.strftime("hatrace-%Y%m%d-%H%M%S.hatrace"))
    return watch(
        Settings(
            options.scope(pid, comm, cgroup, everybody),
            duration,
            as_json,
            output,
            force,
            max_size,
            detail,
            rung,
            check_events,
            redact,
            options.share(max_cpu),
            not no_bpf_stats,
            logs,
            screen=False,
        )
    )
