"""``hatrace live``: watch this host on the terminal, or as lines."""

from __future__ import annotations

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
    "-o", "--output", type=click.Path(path_type=Path), help="Keep a capture of it as well."
)
@options.logs_option
@click.option(
    "--check-events",
    is_flag=True,
    help="Switch on HAProxy's own trace of checks while watching (process-wide; 2.4+).",
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
    logs: str,
    check_events: bool,
    max_cpu: float | None,
    no_bpf_stats: bool,
) -> int:
    """Watch this host: findings first, then what every target holds.

    Without a terminal, or with --json, a line for each change.  Exit code 1 with findings.
    """
    start_ahead(rung)
    from hatrace.commands._session import Settings, watch

    return watch(
        Settings(
            options.scope(pid, comm, cgroup, everybody),
            duration,
            as_json,
            output,
            rung=rung,
            check_events=check_events,
            max_cpu=options.share(max_cpu),
            bpf_stats=not no_bpf_stats,
            logs=logs,
        )
    )
