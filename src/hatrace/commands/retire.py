"""``hatrace retire``: end an old worker, after showing what it still carries."""

from __future__ import annotations

from pathlib import Path

import click

from hatrace.actions.haproxies import Haproxies
from hatrace.actions.retire import examine, retire
from hatrace.commands import _options as options
from hatrace.commands._crowd import guard
from hatrace.commands._desk import action_options, counter, require_consent
from hatrace.commands._journal import journal


@click.command()
@click.argument("pid", type=click.IntRange(1))
@click.option("--soft", is_flag=True, help="SIGUSR1: let its sessions end by themselves.")
@click.option(
    "--timeout",
    type=options.Duration(),
    default="10s",
    show_default=True,
    help="How long to wait for its end after each signal.",
)
@click.option("--dry-run", is_flag=True, help="Show what it carries and what would be sent.")
@action_options
def command(
    pid: int,
    soft: bool,
    timeout: float,
    dry_run: bool,
    yes: bool,
    output: Path | None,
    as_json: bool,
) -> int:
    """End the old worker PID of HAProxy with SIGTERM, and see that its sockets are gone, too.

    Never a current worker, never a master, nothing that is not HAProxy. Asks before each
    signal; SIGKILL is offered if it does not end. Exit code 0: it is gone, 1: it is not.
    """
    require_consent(yes, dry_run)
    haproxies = Haproxies(guard())
    haproxies.look()
    candidate = examine(haproxies, pid)
    with counter(journal(output), yes=yes, dry_run=dry_run, as_json=as_json) as desk:
        return desk.conclude(retire(haproxies, candidate, desk, timeout, soft))
