"""The command line: what it lists, what it imports, and how each failure ends."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

from hatrace import __version__, cli
from hatrace.errors import CaptureUnreadable, EnvironmentLacks, HatraceError, UsageError

SRC = Path(cli.__file__).parents[1]
GOLDEN = str(Path(__file__).parents[1] / "golden/v1.hatrace")

Body = Callable[[], object]
Define = Callable[[Body], None]


@pytest.fixture
def define(monkeypatch: pytest.MonkeyPatch) -> Define:
    """Puts a command ``probe`` beside the real ones, with this body."""

    def put(body: Body) -> None:
        module = ModuleType("hatrace.commands.probe")
        module.command = click.command("probe")(body)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(cli.COMMANDS, "probe", "For the test.")

    return put


def raising(error: BaseException) -> Body:
    def body() -> None:
        raise error

    return body


def python(code: str, **more: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(SRC)},
        text=True,
        stderr=subprocess.PIPE,
        **more,  # type: ignore[call-overload]
    )


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"hatrace {__version__}\n"


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_lists_every_command(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([option]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in cli.COMMANDS)


def test_help_imports_no_command() -> None:
    code = (
        "import sys; from hatrace import cli; cli.run(['--help']);"
        "print(*[m for m in sys.modules if m.startswith(('hatrace.', 'rich', 'bcc', 'mcap'))],"
        "sep=',')"
    )
    process = python(code, stdout=subprocess.PIPE)
    out, _ = process.communicate(timeout=60)
    modules = set(out.splitlines()[-1].split(","))
    ours = ("cli", "errors", "sinks", "sinks.stream", "sinks.text")
    assert modules <= {f"hatrace.{name}" for name in ours}


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([name, "--help"]) == 0
    assert f"Usage: hatrace {name}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["no-such-command"], ["--no-such-option"]])
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(arguments) == 2
    assert arguments[0] in capsys.readouterr().err


@pytest.mark.parametrize("code", [0, 1])
def test_the_command_decides(code: int, define: Define) -> None:
    define(lambda: code)
    assert cli.run(["probe"]) == code


def test_nothing_returned_is_0(define: Define) -> None:
    define(lambda: None)
    assert cli.run(["probe"]) == 0


@pytest.mark.parametrize(
    ("kind", "code"),
    [(UsageError, 2), (EnvironmentLacks, 3), (CaptureUnreadable, 4), (HatraceError, 3)],
)
def test_expected_failures(
    kind: type[HatraceError], code: int, define: Define, capsys: pytest.CaptureFixture[str]
) -> None:
    define(raising(kind("cannot load BPF", "not root", "run it with sudo")))
    assert cli.run(["probe"]) == code
    shown = capsys.readouterr()
    assert shown.err == "hatrace: cannot load BPF: not root\n  do: run it with sudo\n"
    assert shown.out == ""


def test_errors_cannot_drive_the_terminal(
    define: Define, capsys: pytest.CaptureFixture[str]
) -> None:
    define(raising(EnvironmentLacks("HAProxy said \x1b[2J", "\nroot:", "\x07")))
    cli.run(["probe"])
    shown = capsys.readouterr().err
    assert shown == "hatrace: HAProxy said \\x1b[2J: \\nroot:\n  do: \\x07\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_interrupted(
    error: BaseException, define: Define, capsys: pytest.CaptureFixture[str]
) -> None:
    define(raising(error))
    assert cli.run(["probe"]) == 130
    assert capsys.readouterr().err == ""


def test_defects_keep_their_traceback(define: Define) -> None:
    define(raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.run(["probe"])


@pytest.fixture
def broken_pipe() -> Iterator[int]:
    """The writing end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


def test_a_reader_that_leaves(broken_pipe: int) -> None:
    process = python("from hatrace.cli import main; main(['--help'])", stdout=broken_pipe)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (141, "")


def test_a_reader_that_leaves_a_report(broken_pipe: int) -> None:
    code = f"from hatrace.cli import main; main(['report', {GOLDEN!r}])"
    process = python(code, stdout=broken_pipe)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (141, "")


@pytest.mark.parametrize("words", [["--no-such-option"], ["explain", "no-such-finding"]])
def test_errors_that_nobody_can_be_told_keep_their_exit_code(
    words: list[str], broken_pipe: int
) -> None:
    code = f"from hatrace.cli import main; main({words})"
    with Path("/dev/full").open("w") as full:
        for nowhere in (broken_pipe, full.fileno()):
            process = subprocess.run(
                [sys.executable, "-c", code],
                env=os.environ | {"PYTHONPATH": str(SRC)},
                stderr=nowhere,
                timeout=60,
            )
            assert process.returncode == 2


@pytest.mark.parametrize("full", [True, False])
def test_warnings_that_nobody_can_be_told_cost_no_answer(
    full: bool, broken_pipe: int, tmp_path: Path
) -> None:
    torn, rows = tmp_path / "torn.hatrace", tmp_path / "rows.csv"
    whole = Path(GOLDEN).read_bytes()
    torn.write_bytes(whole[: len(whole) // 2])
    words = ["export", str(torn), "--format", "csv", "-o", str(rows)]
    with Path("/dev/full").open("w") as takes_nothing:
        process = subprocess.run(
            [sys.executable, "-c", f"from hatrace.cli import main; main({words})"],
            env=os.environ | {"PYTHONPATH": str(SRC)},
            stderr=takes_nothing.fileno() if full else broken_pipe,
            timeout=60,
        )
    assert process.returncode == 0
    assert rows.read_text().startswith("seen,at,")


@pytest.mark.parametrize("words", [["report", GOLDEN], ["explain"], ["export", GOLDEN]])
def test_a_terminal_that_has_gone_without_its_signal(words: list[str]) -> None:
    """As under nohup, or after ``disown``."""
    ours, theirs = pty.openpty()
    os.close(ours)
    code = (
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN);"
        f"from hatrace.cli import main; main({words})"
    )
    process = python(code, stdout=theirs)
    os.close(theirs)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (129, "")


def test_streams_that_were_closed_are_streams_to_nowhere() -> None:
    """``hatrace ... <&- >&- 2>&-``: no traceback, no other file gets their numbers, nor a child's,
    and nothing is printed that they could not take."""
    code = """
import os, sys
from hatrace import cli
def body(*_):
    for stream in (sys.stdout, sys.stderr):
        print("to nobody \\u2192 \\udc80", file=stream, flush=True)
    theirs = all(os.get_inheritable(fd) for fd in (0, 1, 2))
    return 7 if theirs and os.open("/dev/null", os.O_RDONLY) > 2 and not sys.stdin.isatty() else 8
cli._invoke = body
cli.main([])
"""
    shell = f"exec {sys.executable} -c '{code}' <&- >&- 2>&-"
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment = os.environ | {"PYTHONPATH": str(SRC)} | ascii_only
    assert subprocess.run(["sh", "-c", shell], env=environment, timeout=60).returncode == 7


@pytest.mark.parametrize("style", ["text", "markdown"])
def test_what_the_locale_cannot_print_is_made_visible(style: str) -> None:
    code = (
        "import sys; sys.stdout.reconfigure(encoding='latin-1');"
        f"from hatrace.cli import main; main(['report', '--format', '{style}', {GOLDEN!r}])"
    )
    process = python(code, stdout=subprocess.PIPE)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, "")
    assert "\\u2192" in out


def test_another_broken_pipe_is_a_defect() -> None:
    code = (
        "from hatrace import cli\ndef f(*_): raise BrokenPipeError\ncli._invoke = f\ncli.main([])"
    )
    process = python(code, stdout=subprocess.PIPE)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "BrokenPipeError" in err


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_signals_leave_through_finally(name: str) -> None:
    code = f"""
import os, signal
from hatrace import cli
def body(*_):
    try:
        os.kill(os.getpid(), signal.{name})
        signal.pause()
    finally:
        print("cleaned up", flush=True)
cli._invoke = body
cli.main([])
"""
    process = python(code, stdout=subprocess.PIPE)
    out, err = process.communicate(timeout=60)
    number = {"SIGTERM": 15, "SIGHUP": 1}[name]
    assert (process.returncode, out, err) == (128 + number, "cleaned up\n", "")


def test_a_full_disk_behind_stdout() -> None:
    with Path("/dev/full").open("w") as full:
        process = python("from hatrace.cli import main; main(['explain'])", stdout=full)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert err == "hatrace: cannot write the output: No space left on device\n  do: make room\n"
