"""HAProxy with a bug of an old release put back, compiled from Debian's source.

    python -m hatrace.lab.regressed     # fetch and compile; prints versions and paths

Debian's archive has no release between those of its suites.  A bug that came with one commit and
went with the next can be put back into a suite's source: such a build leaks by HAProxy's own
code, not by a shim below it, and says the version in which the bug was.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hatrace.errors import EnvironmentLacks
from hatrace.lab.apt import Apt, locked, run
from hatrace.lab.builds import CACHE, version

BARE = ("USE_OPENSSL=", "USE_ZLIB=", "USE_PCRE=", "USE_PCRE2=", "USE_LUA=")
"""No libraries but the C library."""


@dataclass(frozen=True, slots=True)
class Bug:
    """What one commit changed and another changed back: a pattern in a file, and its words then."""

    version: str
    """The release that had it, and the version that the build gives itself."""
    suite: str
    """Debian's suite whose source is nearest."""
    file: str
    now: str
    """Regular expression; must match once."""
    then: str
    """With the groups of ``now``."""


ZERO_COPY = Bug(
    version="2.9.1",
    suite="trixie",
    file="include/haproxy/stconn.h",
    now=r"(SE_FL_ERROR\|SE_FL_ERR_PENDING\)\) \{\s+se->iobuf\.flags \|= IOBUF_FL_)NO_FF",
    then=r"SE_FL_EOS|\1FF_BLOCKED",
)
"""GH #2395: zero-copy forwarding is blocked, not left, when the other side has ended, so that
nothing ever closes the stream.  Came with 2421c6fa7 (2.9.1), went with 123a9e7d8 (2.9.2)."""

UNSEEN_ABORT = Bug(
    version="3.0.5",
    suite="trixie",
    file="src/cli.c",
    now=r"if \(se_fl_test\(appctx->sedesc, SE_FL_SHW\)\) \{\s+"
    r"appctx->st0 = CLI_ST_END;\s+continue;\s+\}",
    then="",
)
"""GH #2727: the command line's applet waits for a request of a client that has left already.
Not the very lines of 3.0.5, but what was measured of it: a client that connects to the stats
socket and closes at once keeps its slot.  Went with 14a413033 (3.0.6)."""


def fetch(bug: Bug) -> Path:
    """The HAProxy with this bug, from the cache or compiled now (a minute or two)."""
    with locked(CACHE):
        home = CACHE / f"with-{bug.version}"
        if not (home / "haproxy").exists():
            _build(bug, home)
        return home / "haproxy"


def _build(bug: Bug, home: Path) -> None:
    """Complete or not at all."""
    if missing := [tool for tool in ("make", "cc") if shutil.which(tool) is None]:
        what, do = (
            f"no {' and no '.join(missing)} on this host",
            "apt-get install make gcc libc6-dev",
        )
        raise EnvironmentLacks("cannot compile HAProxy", what, do)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="source.") as temp:
        source = _unpacked(Apt(bug.suite, CACHE, sources=True), Path(temp))
        _put_back(bug, source / bug.file)
        names = (f"VERSION={bug.version}", "SUBVERS=", "EXTRAVERSION=")
        jobs = f"-j{os.cpu_count() or 1}"
        run("make", jobs, "TARGET=linux-glibc", *BARE, *names, "haproxy", cwd=source)
        if version(source / "haproxy") != bug.version:
            raise EnvironmentLacks("the HAProxy that was compiled does not say its version")
        home.mkdir(exist_ok=True)
        shutil.copy2(source / "haproxy", home / "new")
        (home / "new").rename(home / "haproxy")


def _unpacked(apt: Apt, folder: Path) -> Path:
    apt("apt-get", "-q", "update")
    apt("apt-get", "-q", "source", "--download-only", "--tar-only", "haproxy", cwd=folder)
    run("tar", "-xf", next(folder.glob("*.orig.tar.*")), cwd=folder)
    return next(path for path in folder.iterdir() if path.is_dir())


def _put_back(bug: Bug, file: Path) -> None:
    text, count = re.subn(bug.now, bug.then, file.read_text())
    if count != 1:
        found = f"{count} places in {bug.file} look like it"
        raise EnvironmentLacks(f"cannot put the bug of {bug.version} back", found)
    file.write_text(text)


if __name__ == "__main__":
    for bug in (ZERO_COPY, UNSEEN_ABORT):
        path = fetch(bug)
        print(version(path), path)
