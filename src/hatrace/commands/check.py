"""``hatrace check``: static questions to a configuration and its host, before anything leaks."""

from __future__ import annotations

import click

from hatrace import checks
from hatrace.commands import _options as options
from hatrace.commands import _setups
from hatrace.errors import UsageError
from hatrace.haproxy.version import Version
from hatrace.model.finding import Severity
from hatrace.sinks import checked


@click.command()
@click.argument("config", nargs=-1)
@click.option("--version", metavar="X.Y.Z", help="Ask for this version of HAProxy.")
@click.option("--haproxy", metavar="PATH", help="The HAProxy that validates the files given.")
@options.json_option
def command(
    config: tuple[str, ...], version: str | None, haproxy: str | None, as_json: bool
) -> int:
    """What in a configuration leads to leaks, and what its host will run out of.

    CONFIG are HAProxy's files or folders; without any, those of each HAProxy that runs here.
    HAProxy's own `haproxy -c` is asked first.  Exit code 1 with findings of severity warning or
    critical, 0 without.
    """
    _validate(config, version, haproxy)
    setups = [_setups.of_files(config, haproxy, version)] if config else _setups.running(version)
    worst = 0
    for number, setup in enumerate(setups):
        answers = checks.ask(setup)
        if as_json:
            click.echo(checked.as_json(answers))
        else:
            click.echo(("\n" if number else "") + checked.as_text(answers))
        worst |= any(each.severity is not Severity.NOTICE for each in answers.findings)
    return int(worst)


def _validate(config: tuple[str, ...], version: str | None, haproxy: str | None) -> None:
    """Raises UsageError for what makes no sense."""
    if haproxy is not None and not config:
        raise UsageError("--haproxy without CONFIG", "a running one is validated by its own binary")
    if version is not None:
        try:
            Version(version)
        except ValueError as error:
            raise UsageError(f"--version {version}", "it is no version", "2.9.1") from error
