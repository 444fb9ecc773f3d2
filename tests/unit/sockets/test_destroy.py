"""What destroy() refuses before it asks the kernel."""

from __future__ import annotations

import struct

from hatrace.model.address import packed
from hatrace.model.flow import State
from hatrace.sockets.destroy import Outcome, _request, destroy
from tests import factories


def test_gone_listening_and_closed_are_not_tried() -> None:
    assert destroy(factories.flow(gone_ns=5)) == Outcome(False, "it was gone already")
    assert "listener" in destroy(factories.flow(state=int(State.LISTEN))).text
    closed = destroy(factories.flow(state=int(State.CLOSE)))
    assert not closed.done and "only its owner" in closed.text


def test_a_request_names_exactly_one_socket() -> None:
    """struct inet_diag_req_v2: ports and addresses in network order, the cookie in the host's."""
    flow = factories.flow(laddr="192.0.2.1", raddr="192.0.2.9", lport=0x1234, rport=443)
    raw = _request(flow, 0x1122334455667788)
    assert len(raw) == 56 and raw[0] == 2 and raw[1] == 6
    assert raw[8:12] == bytes([0x12, 0x34, 0x01, 0xBB])
    assert raw[12:28] == bytes([192, 0, 2, 1]) + bytes(12)
    assert raw[28:44] == bytes([192, 0, 2, 9]) + bytes(12)
    assert struct.unpack("=IQ", raw[44:]) == (0, 0x1122334455667788)


def test_v4_mapped_is_asked_for_as_v6() -> None:
    raw = _request(factories.flow(laddr="192.0.2.1", family=10), 0)
    assert raw[0] == 10 and raw[12:28] == packed("192.0.2.1")
