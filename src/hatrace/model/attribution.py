"""Attribution: what a flow is to HAProxy, how sure that is, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hatrace.model.finding import Confidence


class Role(StrEnum):
    """What a flow is for.  ``application``: it belongs to a process which is not HAProxy."""

    CLIENT = "client"
    SERVER = "server"
    CHECK = "check"
    AGENT = "agent-check"
    PEERS = "peers"
    RESOLVER = "resolver"
    LOG = "log"
    CLI = "cli"
    MASTER_CLI = "master-cli"
    WORKER_LINK = "worker-link"
    LISTENER = "listener"
    APPLICATION = "application"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Attribution:
    """A flow's (or target's) role; ``label`` is ``backend/server``, a frontend, or empty."""

    role: Role
    label: str = ""
    confidence: Confidence = Confidence.POSSIBLE
    reason: str = ""


UNATTRIBUTED = Attribution(Role.UNKNOWN)
