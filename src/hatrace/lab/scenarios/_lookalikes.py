"""The look-alikes of one kind of trouble each, beside the general ones."""

from __future__ import annotations

from hatrace.lab.scenarios import (
    healthy_abandoned,
    healthy_bursts,
    healthy_chain,
    healthy_check_reuse,
    healthy_drained,
    healthy_external,
    healthy_flapping,
    healthy_half_closed,
    healthy_handover,
    healthy_operators,
    healthy_pauses,
    healthy_peers,
    healthy_resolvers,
    healthy_reuse,
    healthy_rhythm,
    healthy_slow_checks,
    healthy_slow_readers,
    healthy_websockets,
)

LOOKALIKES = (
    healthy_websockets,
    healthy_reuse,
    healthy_rhythm,
    healthy_half_closed,
    healthy_slow_readers,
    healthy_abandoned,
    healthy_slow_checks,
    healthy_check_reuse,
    healthy_external,
    healthy_flapping,
    healthy_drained,
    healthy_handover,
    healthy_bursts,
    healthy_chain,
    healthy_peers,
    healthy_resolvers,
    healthy_operators,
    healthy_pauses,
)
