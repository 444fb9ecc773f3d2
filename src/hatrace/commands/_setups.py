"""Setups: the HAProxys of this host, or the files given, with all that the checks want to know."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from hatrace.errors import EnvironmentLacks, HatraceError, UsageError
from hatrace.haproxy import config, known_issues, procfs, settings, sockets, validate
from hatrace.haproxy.config import Configuration
from hatrace.haproxy.discovery import Finder
from hatrace.haproxy.validate import NotValidated
from hatrace.model.event import CommandSockets
from hatrace.model.finding import KnownBug
from hatrace.model.setup import Setup, Validation
from hatrace.model.topology import CommandSocket, Kind, Process
from hatrace.sockets import holders
from hatrace.sockets.command_sockets import command_sockets
from hatrace.sockets.host_facts import host_facts

PLACES = "/usr/sbin:/usr/local/sbin:/opt/haproxy/sbin"
"""Where HAProxy may be if PATH has none."""


def of_files(files: Sequence[str], binary: str | None, version: str | None) -> Setup:
    """Files that may not be in use anywhere; raises UsageError for those that cannot be read."""
    paths = tuple(str(Path(file).absolute()) for file in files)
    try:
        read = config.read(map(Path, paths), os.environ, os.uname().nodename)
    except OSError as error:
        why = error.strerror or str(error)
        raise UsageError("cannot read the configuration", why, "name HAProxy's files") from error
    said, why = _validation(paths, binary)
    told = version or (said.version if said else None)
    return replace(
        _setup(read, paths, told),
        host=host_facts(),
        validation=said,
        not_validated=why,
    )


def _validation(files: Sequence[str], binary: str | None) -> tuple[Validation | None, str]:
    """HAProxy's word, or why there is none; raises UsageError for a binary that cannot give it."""
    path = os.environ.get("PATH", "")
    found = binary or shutil.which("haproxy", path=f"{path}:{PLACES}")
    if found is None:
        return None, "no haproxy on this host"
    try:
        return validate.named(found, files), ""
    except NotValidated as error:
        if binary is not None:
            raise UsageError(f"--haproxy {binary}", str(error), "name a HAProxy") from error
        return None, str(error)


def running(version: str | None) -> Iterator[Setup | EnvironmentLacks]:
    """Each HAProxy that runs, or why its configuration cannot be read; raises EnvironmentLacks
    if none runs.  One that ends meanwhile is passed over."""
    processes = Finder().scan()
    heads = [one for one in processes if one.kind in (Kind.MASTER, Kind.STANDALONE)]
    if not heads:
        raise EnvironmentLacks(
            "no HAProxy runs on this host",
            "no process is named haproxy",
            "name its configuration: hatrace check /etc/haproxy/haproxy.cfg",
        )
    for head in heads:
        try:
            yield _of_process(head, processes, version)
        except OSError as error:
            if procfs.stat(head.pid) is not None:
                yield EnvironmentLacks(
                    f"the configuration of HAProxy {head.pid} cannot be read",
                    error.strerror or str(error),
                    "run hatrace as root, or name the files: hatrace check FILE",
                )


def _of_process(head: Process, processes: Sequence[Process], version: str | None) -> Setup:
    """Raises OSError where its files cannot be read."""
    read = settings.load(head).configuration
    masters = sockets.of_process(head, read) if head.kind is Kind.MASTER else ()
    setup = _setup(read, head.config_files, version or head.version)
    try:
        said, why = validate.running(head, head.config_files), ""
    except NotValidated as error:
        said, why = None, str(error)
    return replace(
        setup,
        options=settings.event(head, read).options,
        process=head,
        old_workers=_old_workers(head, processes),
        master_sockets=masters,
        seen=_seen(masters),
        host=host_facts(head.pid),
        validation=said,
        not_validated=why,
    )


def _setup(read: Configuration, files: tuple[str, ...], version: str | None) -> Setup:
    return Setup(
        at_ns=time.monotonic_ns(),
        files=files,
        general=read.general,
        sections=read.sections,
        global_place=read.global_place,
        options=read.options,
        stats_sockets=tuple(each.path for each in read.sockets),
        peer_sections=read.peer_sections,
        peers=read.peers,
        version=version,
        bugs=tuple(_bugs(version)) if version else (),
    )


def _bugs(version: str) -> Iterator[tuple[str, KnownBug]]:
    """Those of this version, each with every finding it shows as; the surest first."""
    slugs = sorted(set().union(*(issue.slugs for issue in known_issues.issues())))
    found = [(slug, bug) for slug in slugs for bug in known_issues.matching(version, slug)]
    order = [issue.bug for issue in known_issues.issues()]
    yield from sorted(found, key=lambda pair: order.index(pair[1]))


def _old_workers(head: Process, processes: Sequence[Process]) -> tuple[Process, ...]:
    old = [one for one in processes if one.kind is Kind.OLD_WORKER]
    if head.kind is Kind.MASTER:
        return tuple(one for one in old if one.parent_pid == head.pid)
    masters = {one.pid for one in processes if one.kind is Kind.MASTER}
    return tuple(
        one
        for one in old
        if one.parent_pid not in masters and one.config_files == head.config_files
    )


def _seen(masters: Sequence[CommandSocket]) -> CommandSockets | None:
    try:
        return command_sockets(masters, holders.Finder())
    except HatraceError:
        return None
