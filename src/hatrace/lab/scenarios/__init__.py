"""Every scenario of the lab, in the order of ``hatrace lab --list``."""

from __future__ import annotations

from hatrace.lab.scenario import Scenario
from hatrace.lab.scenarios import (
    check_leak,
    drain_survivor,
    drain_survivor_before,
    drain_survivor_connecting,
    drain_survivor_half_closed,
    healthy,
    healthy_checks,
    healthy_idle,
    healthy_reloads,
    master_socket_3_0_5,
    master_socket_clients,
    master_socket_server,
    master_socket_worker,
    not_accepting,
    orphan_storm,
    port_pressure,
    port_pressure_time_wait,
    stale_bind_ephemeral,
    stale_bind_generations,
    stale_bind_stopped,
    stale_worker,
    stream_leak,
    stream_leak_2_9_1,
    stream_leak_checked,
    unreleased_accept,
)
from hatrace.lab.scenarios._lookalikes import LOOKALIKES

SCENARIOS: dict[str, Scenario] = {
    module.SCENARIO.name: module.SCENARIO
    for module in (
        check_leak,
        stream_leak,
        stream_leak_2_9_1,
        stream_leak_checked,
        master_socket_clients,
        master_socket_server,
        master_socket_worker,
        master_socket_3_0_5,
        drain_survivor,
        drain_survivor_before,
        drain_survivor_half_closed,
        drain_survivor_connecting,
        stale_worker,
        stale_bind_stopped,
        stale_bind_generations,
        stale_bind_ephemeral,
        unreleased_accept,
        not_accepting,
        orphan_storm,
        port_pressure,
        port_pressure_time_wait,
        healthy,
        healthy_idle,
        healthy_checks,
        healthy_reloads,
        *LOOKALIKES,
    )
}
