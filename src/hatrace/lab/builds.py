"""HAProxy of other Debian suites, beside the system's and without touching it.

    python -m hatrace.lab.builds trixie forky     # fetch and unpack; prints version and path

The packages come from the mirror this host's apt already uses, through an apt with a state of
its own.  A binary of another suite needs that suite's C library, so its interpreter and library
path are set (patchelf) to the unpacked ones: it runs directly, and its command name stays
``haproxy``.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from hatrace.errors import EnvironmentLacks
from hatrace.lab.apt import Apt, locked, run

SUITES = {"bullseye": "2.2", "bookworm": "2.6", "trixie": "3.0", "forky": "3.2"}
"""Debian's suites and the series of HAProxy each carries."""

_HOME = os.environ.get("HOME") or "/root"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or f"{_HOME}/.cache", "hatrace/haproxy")


def system() -> Path:
    """The installed HAProxy; raises EnvironmentLacks without one."""
    found = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise EnvironmentLacks("no HAProxy on this host", do="apt-get install haproxy")
    return Path(found).resolve()


def version(binary: Path) -> str:
    """As ``haproxy -v`` says: ``2.6.12-1+deb12u1``; raises EnvironmentLacks if it does not run."""
    try:
        answer = subprocess.run([binary, "-v"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentLacks(f"{binary} does not run", str(error)) from error
    match = re.search(r"version (\S+)", answer.stdout)
    if match is None:
        raise EnvironmentLacks(f"{binary} does not say its version", answer.stderr.strip()[:200])
    return match[1]


def available() -> dict[str, Path]:
    """The suites that are unpacked already, with their binaries."""
    return {suite: path for suite in SUITES if (path := CACHE / suite / "haproxy").exists()}


def fetch(suite: str) -> Path:
    """A suite's HAProxy, from the cache or else from the mirror; its binary's path."""
    if suite not in SUITES:
        raise EnvironmentLacks(
            f"no suite {suite}", f"hatrace knows {', '.join(SUITES)}", "choose one of them"
        )
    with locked(CACHE):
        home = CACHE / suite
        if not (home / "haproxy").exists():
            _build(suite, home)
        return home / "haproxy"


def _build(suite: str, home: Path) -> None:
    """Unpack HAProxy and its libraries to ``home``, complete or not at all."""
    apt = Apt(suite, CACHE)
    apt("apt-get", "-q", "update")
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=f"{suite}.") as temp:
        root = Path(temp, "new/root")
        apt.unpack(_closure(apt), root)
        binary = root.with_name("haproxy")
        shutil.copy2(root / "usr/sbin/haproxy", binary)
        loader = next(path for path in root.glob("**/ld-linux*.so.*"))
        libraries = sorted({path.parent for path in root.glob("**/*.so.*")})
        moved = [str(home / path.relative_to(root.parent)) for path in (loader, *libraries)]
        run(_patchelf(), "--set-interpreter", moved[0], binary)
        run(_patchelf(), "--force-rpath", "--set-rpath", ":".join(moved[1:]), binary)
        shutil.rmtree(home, ignore_errors=True)
        root.parent.rename(home)
    version(home / "haproxy")


def _closure(apt: Apt) -> list[str]:
    """HAProxy and every library it needs, as apt resolves it on an empty machine."""
    uris = apt("apt-get", "install", "--print-uris", "-qq", "--no-install-recommends", "haproxy")
    names = {line.split()[1].split("_")[0] for line in uris.splitlines() if line.startswith("'")}
    return sorted(name for name in names if name == "haproxy" or re.match("lib|zlib", name))


def _patchelf() -> Path:
    """patchelf, installed or unpacked in the cache (bookworm's runs on later suites too)."""
    if found := shutil.which("patchelf"):
        return Path(found)
    tool = CACHE / "patchelf/usr/bin/patchelf"
    if not tool.exists():
        apt = Apt("bookworm", CACHE)
        apt("apt-get", "-q", "update")
        apt.unpack(["patchelf"], CACHE / "patchelf")
    return tool


def main() -> None:
    """Fetch the suites named (all without names) and print where each binary is."""
    parser = argparse.ArgumentParser(prog="hatrace.lab.builds", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=", ".join(SUITES))
    for suite in parser.parse_args().suites or SUITES:
        path = fetch(suite)
        print(f"{suite:10} {version(path):24} {path}")


if __name__ == "__main__":
    main()
