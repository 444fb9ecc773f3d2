"""Debian packages of any suite, without touching the host's: an apt with a state of its own.

The packages come from the mirror which this host's apt already uses.
"""

from __future__ import annotations

import fcntl
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hatrace.errors import EnvironmentLacks

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def mirror() -> str:
    """The Debian archive which this host's apt uses, as the start of a ``deb`` line."""
    targets = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)",
                  "Created-By: Packages", "Origin: Debian")  # fmt: skip
    for line in targets.splitlines():
        uri, codename, component = line.split()
        if component == "main" and "-" not in codename:
            signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
            return f"deb {signed}{uri}"
    raise EnvironmentLacks("no Debian mirror in apt's configuration", do="run apt-get update")


@dataclass(frozen=True, slots=True)
class Apt:
    """apt for one suite; what it fetches and remembers lies below ``cache``."""

    suite: str
    cache: Path
    sources: bool = False
    """Source packages, not binary ones."""
    architecture: str = ""
    """Debian's name of another than the host's."""

    def __call__(self, tool: str, *words: str, cwd: Path | None = None) -> str:
        """The output of ``apt-get`` or ``apt-cache``; raises EnvironmentLacks."""
        kinds = (self.suite, "sources" if self.sources else "", self.architecture)
        state = self.cache / "apt" / "-".join(filter(None, kinds))
        for part in ("lists/partial", "cache/archives/partial"):
            (state / part).mkdir(parents=True, exist_ok=True)
        (state / "status").touch()
        kind, _, archive = mirror().partition(" ")
        if self.sources:
            kind = "deb-src"
        (state / "sources.list").write_text(f"{kind} {archive} {self.suite} main\n")
        options = {
            "Dir::State": state,
            "Dir::State::status": state / "status",
            "Dir::Cache": state / "cache",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::sourcelist": state / "sources.list",
            "Dir::Etc::preferencesparts": "/dev/null",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
        }
        if self.architecture:
            options |= dict.fromkeys(("APT::Architecture", "APT::Architectures"), self.architecture)
        flags = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return run(tool, *flags, *words, cwd=cwd or state)

    def unpack(self, packages: Sequence[str], root: Path) -> None:
        """Download packages and unpack them (no maintainer script runs)."""
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.cache) as temp:
            self("apt-get", "-q", "download", *packages, cwd=Path(temp))
            for deb in Path(temp).glob("*.deb"):
                run("dpkg", "-x", deb, root)


def run(*words: str | Path, cwd: Path | None = None) -> str:
    """A command's output; raises EnvironmentLacks with the last line of what it complained."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, cwd=cwd, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentLacks(f"{words[0]} did not run", str(error)) from error
    if done.returncode:
        complaint = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise EnvironmentLacks(f"{Path(words[0]).name} failed", complaint)
    return done.stdout


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Only one process fills a cache at a time.  Raises EnvironmentLacks."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentLacks(
            f"cannot keep anything in {folder}", str(error), "set XDG_CACHE_HOME to another folder"
        ) from error
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
