"""Every scenario of the lab, in the order of ``hatrace lab --list``."""

from __future__ import annotations

from hatrace.lab.scenario import Scenario
from hatrace.lab.scenarios import (
    check_leak,
    healthy,
    master_socket_clients,
    master_socket_server,
    master_socket_worker,
    stream_leak,
)

SCENARIOS: dict[str, Scenario] = {
    module.SCENARIO.name: module.SCENARIO
    for module in (
        check_leak,
        stream_leak,
        master_socket_clients,
        master_socket_server,
        master_socket_worker,
        healthy,
    )
}
