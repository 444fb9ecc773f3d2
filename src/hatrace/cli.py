"""The command line: the list of commands, and the one place where errors are caught.

A command is a module ``hatrace.commands.<name>`` whose ``command`` is a click command; its
callback returns the exit code, ``None`` meaning 0.  Modules are imported when they are
called, so that ``--help`` and a mistyped option answer at once.

Exit codes: 0 nothing found, 1 findings, 2 usage, 3 the environment cannot, 4 unreadable
capture; 128 + n when signal n ended it (130 is Ctrl-C).
"""

from __future__ import annotations

import errno
import io
import os
import select
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn

import click

from hatrace import __version__
from hatrace.errors import EnvironmentLacks, HatraceError
from hatrace.sinks.stream import aside, forget
from hatrace.sinks.text import escape

COMMANDS = {
    "live": "Watch this host: findings first, then what every target holds.",
    "record": "Watch this host without a screen, into a capture file.",
    "report": "Say what a capture shows: as text, Markdown or JSON.",
    "replay": "The live view, from a capture file.",
    "doctor": "What works here, what does not, and why.",
    "check": "What in a configuration leads to leaks, before anything leaks.",
    "explain": "What a finding means: cause, evidence, what to do.",
    "export": "A capture's flows and findings as data for other tools.",
    "drain": "Take a server out of HAProxy, and prove that nothing goes to it.",
    "close": "Destroy the connections of a finding, asked first.",
    "retire": "End an old worker, asked first.",
    "lab": "Make a leak on loopback with a real HAProxy, and watch it.",
}


NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
GONE = {errno.EPIPE: signal.SIGPIPE, errno.EIO: signal.SIGHUP}
"""How it is told that a pipe or a terminal is not there any more, and the signal for it."""


class Commands(click.Group):
    """The group over `COMMANDS`, each imported at its first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"hatrace.commands.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As click does, but without importing every command for its help."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hatrace", message="%(prog)s %(version)s")
def application() -> None:
    """Which sockets leak on this HAProxy host, who holds them, why, how long until it
    hurts, and what to do.

    Exit codes: 0 nothing found, 1 findings, 2 usage, 3 the environment cannot,
    4 unreadable capture.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The entry point.  Whatever is not expected keeps its traceback: it is a defect."""
    _complete_streams()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _ended_by_signal)
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code.  What failed is said on stderr."""
    try:
        code = _invoke(arguments)
        sys.stdout.flush()
    except click.exceptions.Exit as wanted:
        code = wanted.exit_code
    except click.ClickException as error:
        _show(error)
        code = error.exit_code
    except HatraceError as error:
        _show(error)
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        code = 128 + signal.SIGINT
    except OSError as error:
        code = _not_written(error)
    return code


def _invoke(arguments: Sequence[str]) -> int:
    """What `click.Command.main` does, without its own handling of errors and pipes."""
    with application.make_context("hatrace", list(arguments)) as context:
        return application.invoke(context) or 0


def _complete_streams() -> None:
    """A stream that was closed (``hatrace ... >&-``) is one to nowhere: a file opened later must
    not get its number, here or in a child, and what is printed nobody's traceback.  What the
    locale's encoding lacks is printed as ``\\u2192``, as stderr does it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, _nowhere(mode))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _nowhere(mode: str) -> IO[str]:
    """A stream which takes all, in any locale, and which children get (PEP 446)."""
    stream = Path(os.devnull).open(mode, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
    os.set_inheritable(stream.fileno(), True)
    return stream


def _show(error: click.ClickException | HatraceError) -> None:
    """On stderr; if that cannot be written, the exit code still says it."""
    if isinstance(error, click.ClickException):
        try:
            error.show()
        except OSError:
            forget(sys.stderr.fileno())
        return
    aside(f"hatrace: {escape(str(error))}")
    if error.do:
        aside(f"  do: {escape(error.do)}")


def _not_written(error: OSError) -> int:
    """The exit code where the output takes no more; raises every other error again."""
    if error.errno in GONE and _reader_has_gone():
        forget(sys.stdout.fileno())
        return 128 + GONE[error.errno]
    if error.errno not in NO_ROOM:
        raise error
    forget(sys.stdout.fileno())
    where = error.filename or "the output"
    _show(EnvironmentLacks(f"cannot write {where}", os.strerror(error.errno), "make room"))
    return EnvironmentLacks.exit_code


def _reader_has_gone() -> bool:
    """Whether it is our stdout that broke: the pipe of ``hatrace report x | head -1``, or a
    terminal that was closed (poll(2): POLLERR)."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLOUT)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def _ended_by_signal(number: int, frame: FrameType | None) -> NoReturn:
    """Leave through every ``finally``: a capture is closed, nothing stays attached."""
    sys.exit(128 + number)
