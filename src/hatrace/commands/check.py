"""``hatrace check``: static questions to a configuration and its host, before anything leaks."""

from __future__ import annotations

import shutil

import click

from hatrace import checks
from hatrace.commands import _options as options
from hatrace.commands import _setups
from hatrace.errors import EnvironmentLacks, UsageError
from hatrace.haproxy.version import Version
from hatrace.model.finding import Severity
from hatrace.model.setup import Setup
from hatrace.sinks import checked
from hatrace.sinks.stream import aside
from hatrace.sinks.text import escape


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
    codes = {_print(setup, as_json) for setup in setups}
    return 1 if 1 in codes else max(codes, default=0)


def _print(setup: Setup | EnvironmentLacks, as_json: bool) -> int:
    """The answers for one HAProxy; its exit code."""
    if isinstance(setup, EnvironmentLacks):
        do = f"\n  do: {escape(setup.do)}" if setup.do else ""
        aside(f"hatrace: {escape(str(setup))}{do}")
        return setup.exit_code
    answers = checks.ask(setup)
    click.echo(checked.as_json(answers) if as_json else checked.as_text(answers) + "\n")
    urgent = any(each.severity is not Severity.NOTICE for each in answers.findings)
    return 1 if urgent else 0


def _validate(config: tuple[str, ...], version: str | None, haproxy: str | None) -> None:
    """Raises UsageError for what makes no sense."""
    if haproxy is not None and not config:
        raise UsageError("--haproxy without CONFIG", "a running one is validated by its own binary")
    if haproxy is not None and shutil.which(haproxy) is None:
        raise UsageError(f"--haproxy {haproxy}", "no program that can be run", "name a HAProxy")
    if version is not None:
        try:
            Version(version)
        except ValueError as error:
            raise UsageError(f"--version {version}", "it is no version", "2.9.1") from error
