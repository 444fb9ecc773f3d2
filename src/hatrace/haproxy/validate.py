"""HAProxy's own word on configuration files: ``haproxy -c -f``.

That runs HAProxy with our rights, and its files may load Lua.  Files that the user names are the
user's choice.  For a HAProxy that was found running, nothing is executed that its user could
have put there: the binary must be root's, the files root's (or ours), and its environment is
passed on only if it runs as root (or as us).
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hatrace.haproxy import arguments, procfs, version
from hatrace.model.setup import Validation
from hatrace.model.topology import Process

DEADLINE_S = 30.0
"""Names of servers are resolved meanwhile."""
MOST_WORDS = 200
OWN_VARIABLES = frozenset(
    ("HAPROXY_PROCESSES", "HAPROXY_CLI", "HAPROXY_MASTER_CLI", "HAPROXY_CFGFILES", "NOTIFY_SOCKET")
)


class NotValidated(Exception):
    """Why HAProxy was not asked."""


def named(binary: str, files: Iterable[str]) -> Validation:
    """With a binary of the user's choice; raises NotValidated.

    One that accepts and does not say its version may be anything: ``true`` accepts every file.
    """
    said = _validated([binary], binary, version.of_command(binary), files, dict(os.environ))
    if said.accepted and said.version is None:
        raise NotValidated(f"{binary} -v tells no version of HAProxy")
    return said


def running(process: Process, files: Sequence[str]) -> Validation:
    """With the binary that a process runs, as that process sees the files; raises NotValidated."""
    if procfs.namespace(process.pid, "mnt") != procfs.namespace(os.getpid(), "mnt"):
        raise NotValidated("it runs in a container: run haproxy -c in there")
    for file in files:
        if not _trusted(Path(file)):
            raise NotValidated(f"{file} belongs to somebody else, or others may write it")
    given = arguments.parse(process.command_line)
    more = ["-L", given.local_peer] if given.local_peer else []
    trusted = _is_root_or_us(process.pid)
    environment = _environment(process.pid) if trusted else {}
    try:
        fd = os.open(f"/proc/{process.pid}/exe", os.O_RDONLY)
    except OSError as error:
        raise NotValidated(f"its binary is not readable: {error.strerror}") from error
    try:
        if not version.is_hosts_own(os.fstat(fd)) and not _is_ours(os.fstat(fd)):
            raise NotValidated("its binary is not root's, or others may write it")
        words = [f"/proc/self/fd/{fd}", *more]
        name = procfs.link(process.pid, "exe") or "haproxy"
        said = _validated(words, name, process.version, files, environment, (fd,))
    finally:
        os.close(fd)
    if not said.accepted and not trusted:
        raise NotValidated(
            f"pid {process.pid} runs as another user, whose environment is not passed on; without"
            f" it haproxy -c refuses: {said.words[-1] if said.words else 'no word'}"
        )
    return said


def _validated(
    command: Sequence[str],
    binary: str,
    told: str | None,
    files: Iterable[str],
    environment: Mapping[str, str],
    fds: tuple[int, ...] = (),
) -> Validation:
    options = [word for file in files for word in ("-f", file)]
    try:
        answer = subprocess.run(
            [*command, "-c", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=DEADLINE_S,
            env=dict(environment),
            pass_fds=fds,
        )
    except subprocess.TimeoutExpired as error:
        raise NotValidated(f"haproxy -c did not end within {DEADLINE_S:g} s") from error
    except OSError as error:
        raise NotValidated(f"{binary} does not run: {error.strerror}") from error
    lines = answer.stdout.decode(errors="replace").splitlines()
    words = tuple(line.rstrip() for line in lines if line.strip())[:MOST_WORDS]
    return Validation(answer.returncode == 0, binary, told, words, os.geteuid() == 0)


def _environment(pid: int) -> dict[str, str]:
    """Without what a master tells itself over a re-exec: with that, ``-c`` waits as a master."""
    found = procfs.environment(pid)
    return {
        name: value
        for name, value in found.items()
        if name not in OWN_VARIABLES and not name.startswith("HAPROXY_MWORKER")
    }


def _trusted(file: Path) -> bool:
    """Whether nobody but root, we ourselves, or a group of theirs can have written it."""
    try:
        found = file.stat()
    except OSError:
        return False
    return found.st_uid in (0, os.geteuid()) and not found.st_mode & stat.S_IWOTH


def _is_ours(found: os.stat_result) -> bool:
    return os.geteuid() != 0 and found.st_uid == os.geteuid()


def _is_root_or_us(pid: int) -> bool:
    """By all of its user ids; the owner of /proc/PID is no measure (prctl(2), PR_SET_DUMPABLE)."""
    for line in (procfs.read(pid, "status", 16384) or b"").splitlines():
        if line.startswith(b"Uid:"):
            return {int(word) for word in line.split()[1:]} <= {0, os.geteuid()}
    return False
