"""HAProxy's own arithmetic of file descriptors.

Source: `compute_ideal_maxsock` and `compute_ideal_maxconn` of src/haproxy.c (src/limits.c from
3.1 on), and `global.maxsock` where listeners, checks and peers add to it.  Compared with `show
info` (Maxsock) of 2.2, 2.6, 3.0 and 3.2: exact without `shards`, OpenSSL engines and a master.
"""

from __future__ import annotations

from hatrace.checks._answer import several
from hatrace.model.setup import BindLine, Descriptors, HostFacts, Setup
from hatrace.model.topology import Kind

RESERVED = 10
STATS_CLIENTS = 10
"""Of all `stats socket` together, unless `stats maxconn` says another."""
PER_THREAD = 3
"""One for the poller, two for the pipe that wakes it."""
PER_AGENT = 2
PER_PEER = 3
MASTER = 23
"""What a worker below a master adds: 12 in 2.2 and 2.6, 23 in 3.0, 1 in 3.2."""


def descriptors(setup: Setup) -> Descriptors | None:
    """None: too little is known (no `maxconn` and no limit, or no number of threads)."""
    threads = _number(setup, "nbthread") or setup.host.cpus
    limit = ceiling(setup)
    if threads is None or not setup.sections:
        return None
    fixed, words = _fixed(setup, threads)
    configured = _number(setup, "maxconn")
    if configured is None and limit is None:
        return None
    maxconn = configured or max(1, (limit or 0) - fixed) * 2 // (5 if _splices(setup) else 4)
    pipes = _pipes(setup, maxconn)
    piped = f" + 2 x {pipes} pipes" if pipes else ""
    needed = 2 * maxconn + 2 * pipes + fixed
    return Descriptors(
        maxconn=maxconn,
        computed=configured is None,
        needed=needed if configured is not None else limit or needed,
        limit=limit,
        arithmetic=f"2 x maxconn {maxconn}{piped} + {words} = {2 * maxconn + 2 * pipes + fixed}",
    )


def ceiling(setup: Setup) -> int | None:
    """The most fds that it can get: its hard limit, or fs.nr_open if it may go beyond."""
    host = setup.host
    most = host.nr_open if host.fd_may_raise else host.fd_hard
    own = _number(setup, "fd-hard-limit")
    known = [each for each in (most, own) if each is not None]
    return min(known, default=None)


def hard_limit_of(host: HostFacts) -> str:
    return "fs.nr_open" if host.fd_may_raise else "hard limit of open files"


def _fixed(setup: Setup, threads: int) -> tuple[int, str]:
    """What does not grow with `maxconn`."""
    listeners = len(setup.stats_sockets) + sum(
        _addresses(bind) for section in setup.sections for bind in section.binds
    )
    servers = [server for section in setup.sections for server in section.servers]
    checks = sum(server.checked for server in servers)
    agents = sum(server.agent_checked for server in servers)
    peers = setup.peer_sections + PER_PEER * setup.peers
    master = MASTER if _has_master(setup) else 0
    clients = (_number(setup, "stats maxconn") or STATS_CLIENTS) if setup.stats_sockets else 0
    parts = [
        (listeners, several(listeners, "listener")),
        (checks, several(checks, "check")),
        (PER_AGENT * agents, f"{PER_AGENT} x {several(agents, 'agent check')}"),
        (clients, f"{clients} clients of the stats sockets"),
        (peers, f"{peers} for peers"),
        (master, f"up to {master} towards the master"),
        (PER_THREAD * threads, f"{PER_THREAD} x {several(threads, 'thread')}"),
        (RESERVED, f"{RESERVED}"),
    ]
    return sum(each for each, _ in parts), " + ".join(words for each, words in parts if each)


def _addresses(bind: BindLine) -> int:
    if bind.low is None or bind.high is None:
        return 1
    return max(1, bind.high - bind.low + 1)


def _has_master(setup: Setup) -> bool:
    running = setup.process is not None and setup.process.kind is Kind.MASTER
    return running or "master-worker" in setup.general


def _pipes(setup: Setup, maxconn: int) -> int:
    """A pipe for each fourth connection where splicing is on, unless `maxpipes` says another."""
    return (_number(setup, "maxpipes") or maxconn // 4) if _splices(setup) else 0


def _splices(setup: Setup) -> bool:
    return any(section.splices for section in setup.sections) and "nosplice" not in setup.general


def _number(setup: Setup, name: str) -> int | None:
    setting = setup.general.get(name)
    words = setting.value.split() if setting is not None else []
    return int(words[0]) if words and words[0].isdecimal() else None
