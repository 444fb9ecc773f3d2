"""Places: what each address and port is used for."""

from __future__ import annotations

from hatrace.flows.places import FORMER_PLACES, Places, labels
from hatrace.model.address import packed
from tests import factories as f

HERE = packed(f.SERVER)


def test_uses_of_one_server() -> None:
    server = f.server(agent_checked=True, agent_address="192.0.2.9", agent_port=9000)
    places = Places([server])
    session, check = places.at(HERE, f.SERVICE_PORT), places.at(HERE, f.CHECK_PORT)
    agent = places.at(packed("192.0.2.9"), 9000)
    assert session is not None and session.sessions == (server,) and not session.checks
    assert check is not None and check.checks == (server,) and not check.sessions
    assert agent is not None and agent.agents == (server,)
    assert places.at(HERE, 1) is None


def test_any_address_is_no_place() -> None:
    places = Places([f.server(address="0.0.0.0", check_address="::")])
    assert places.at(packed("0.0.0.0"), f.SERVICE_PORT) is None
    assert places.at(packed("::"), f.CHECK_PORT) is None


def test_a_check_without_a_port_is_no_place() -> None:
    assert Places([f.server(check_port=0, address=None)]).at(HERE, 0) is None


def test_former_places_are_those_that_nobody_has_now() -> None:
    first = Places([f.server(), f.server("s2", address="192.0.2.2")])
    second = Places([f.server("s2", address="192.0.2.2")], first)
    assert second.former(HERE, f.SERVICE_PORT) is not None
    assert second.former(packed("192.0.2.2"), f.SERVICE_PORT) is None
    third = Places([f.server()], second)
    assert third.former(HERE, f.SERVICE_PORT) is None
    assert third.former(packed("192.0.2.2"), f.SERVICE_PORT) is not None


def test_former_places_are_bounded() -> None:
    places = Places([])
    for n in range(FORMER_PLACES * 2):
        places = Places([f.server(address=f"10.0.{n // 250}.{n % 250 + 1}")], places)
    assert len(places._former) == FORMER_PLACES
    assert places.former(packed("10.0.0.1"), f.SERVICE_PORT) is None


def test_labels() -> None:
    assert labels([]) == ""
    assert labels([f.server(), f.server()]) == "be/s1"
    assert labels(f.server(f"s{n}") for n in range(6)) == "be/s0, be/s1, be/s2, be/s3 and 2 more"
