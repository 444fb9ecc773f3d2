"""What each flow is to HAProxy: by its address, its owner, and HAProxy's own word."""

from __future__ import annotations

import pytest

from hatrace.model import event as events
from hatrace.model.address import packed
from hatrace.model.attribution import Attribution
from hatrace.model.capture_info import Scope, ScopeKind
from hatrace.model.flow import Flag, Flow, State
from hatrace.model.topology import Bind, CheckSettings, Endpoint, Kind
from tests import factories as f
from tests.unit.flows.support import CERTAIN, LIKELY, POSSIBLE, haproxy, said, table

EVERYTHING = {"scope": Scope(ScopeKind.ALL)}
OLD = 90
"""An old worker's pid."""


def of(flow: Flow, *more: events.Event, **info: object) -> Attribution:
    return table(*haproxy(), *more, **info).attribution(flow)


# By address --------------------------------------------------------------------------------


def test_a_check_port_of_its_own_is_certain() -> None:
    found = of(f.check_flow())
    assert said(found) == ("check", "be/s1", CERTAIN)
    assert "only checks" in found.reason


def test_the_service_port_takes_sessions() -> None:
    assert said(of(f.flow())) == ("server", "be/s1", CERTAIN)


def test_a_check_address_of_its_own_with_the_same_port_is_certain() -> None:
    server = f.server(check_address="127.0.0.1", check_port=f.SERVICE_PORT)
    world = table(*haproxy(server))
    check = f.flow(raddr="127.0.0.1")
    assert said(world.attribution(check)) == ("check", "be/s1", CERTAIN)
    assert said(world.attribution(f.flow())) == ("server", "be/s1", CERTAIN)


def test_an_agent_is_neither_check_nor_session() -> None:
    server = f.server(agent_checked=True, agent_address=f.SERVER, agent_port=f.AGENT_PORT)
    world = table(*haproxy(server))
    flow = f.check_flow(rport=f.AGENT_PORT)
    assert said(world.attribution(flow)) == ("agent-check", "be/s1", CERTAIN)


def test_repeated_values_make_no_agent() -> None:
    """`show servers state` repeats the check's address where no agent is configured."""
    server = f.server(agent_checked=False, agent_address=f.SERVER, agent_port=f.CHECK_PORT)
    assert said(table(*haproxy(server)).attribution(f.check_flow()))[0] == "check"


def test_several_servers_at_one_check_address_are_all_named() -> None:
    servers = [f.server(f"s{n}", address=f"192.0.2.{n}") for n in range(1, 8)]
    found = table(*haproxy(*servers)).attribution(f.check_flow())
    assert said(found) == ("check", "be/s1, be/s2, be/s3, be/s4 and 3 more", CERTAIN)


def test_unresolved_servers_match_nothing() -> None:
    world = table(*haproxy(f.server(address=None, check_address=None)))
    found = world.attribution(f.check_flow())
    assert said(found) == ("unknown", "", POSSIBLE)
    assert "no server" in found.reason


def test_a_server_without_a_port_takes_any() -> None:
    world = table(*haproxy(f.server(port=0, check_port=8000)))
    assert said(world.attribution(f.flow(rport=12345))) == ("server", "be/s1", CERTAIN)
    assert said(world.attribution(f.check_flow()))[0] == "check"


def test_switched_off_checks_keep_their_port() -> None:
    world = table(*haproxy(f.server(checked=False)))
    assert said(world.attribution(f.check_flow())) == ("check", "be/s1", LIKELY)


def test_a_removed_server_is_remembered() -> None:
    world = table(*haproxy(), f.servers(f.at(5), f.server("s2", address="192.0.2.9")))
    found = world.attribution(f.flow())
    assert said(found) == ("server", "be/s1", LIKELY)
    assert "until it was removed" in found.reason
    world.apply(f.servers(f.at(6), f.server("s2", address="192.0.2.9")))
    assert world.attribution(f.flow()) == found
    world.apply(f.servers(f.at(7), f.server()))
    assert said(world.attribution(f.flow())) == ("server", "be/s1", CERTAIN)


def test_where_nobody_lives_is_unknown() -> None:
    found = of(f.flow(raddr="203.0.113.1"))
    assert said(found) == ("unknown", "", POSSIBLE)
    assert said(of(f.flow(rport=0, raddr="0.0.0.0"))) == ("unknown", "", POSSIBLE)


@pytest.mark.parametrize(
    ("kind", "role"), [("peers", "peers"), ("resolver", "resolver"), ("log", "log")]
)
def test_endpoints_of_the_configuration(kind: str, role: str) -> None:
    endpoint = Endpoint(kind, "section/one", packed("203.0.113.5"), 10_000)
    configured = f.configured(f.at(1), endpoints=(endpoint,))
    outbound = f.flow(raddr="203.0.113.5", rport=10_000)
    assert said(of(outbound, configured)) == (role, "section/one", CERTAIN)


def test_peers_call_as_well() -> None:
    endpoint = Endpoint("peers", "mypeers/lb1", packed(f.LOCAL), 10_000)
    configured = f.configured(f.at(1), endpoints=(endpoint,))
    assert said(of(f.client_flow(lport=10_000), configured)) == ("peers", "mypeers/lb1", LIKELY)


def test_well_known_ports_are_a_guess() -> None:
    assert said(of(f.flow(raddr="203.0.113.5", rport=53))) == ("resolver", "", POSSIBLE)


# By owner ----------------------------------------------------------------------------------


def test_before_anything_is_told_nothing_is_claimed() -> None:
    found = table().attribution(f.check_flow())
    assert said(found) == ("unknown", "", POSSIBLE)
    assert "server list" in found.reason


def test_servers_may_come_after_the_flow_was_asked_about() -> None:
    world = table(f.processes(f.at(0)))
    flow = f.check_flow()
    assert world.attribution(flow).role == "unknown"
    world.apply(f.servers(f.at(1)))
    assert said(world.attribution(flow)) == ("check", "be/s1", CERTAIN)


def test_an_old_worker_borrows_the_newest_list() -> None:
    processes = f.processes(f.at(1), f.process(), f.process(OLD, Kind.OLD_WORKER))
    found = of(f.check_flow(pid=OLD), processes)
    assert said(found) == ("check", "be/s1", LIKELY)
    assert f"server list of pid {f.WORKER}" in found.reason


def test_two_workers_have_each_its_own_servers() -> None:
    old = f.server("before", address="192.0.2.50", check_address="192.0.2.50")
    world = table(*haproxy(), f.servers(f.at(1), old, pid=OLD))
    mine, gone = f.flow(pid=OLD, raddr="192.0.2.50"), f.flow(raddr="192.0.2.50")
    assert said(world.attribution(mine)) == ("server", "be/before", CERTAIN)
    assert said(world.attribution(gone))[0] == "unknown"


def test_current_workers_lend_before_old_ones() -> None:
    old = f.server("before", address="192.0.2.50")
    processes = f.processes(f.at(0), f.process(), f.process(OLD, Kind.OLD_WORKER))
    world = table(*haproxy(), processes, f.servers(f.at(9), old, pid=OLD))
    assert said(world.attribution(f.flow(pid=555))) == ("server", "be/s1", LIKELY)


def test_a_worker_that_has_gone_is_still_haproxy() -> None:
    world = table(*haproxy(), f.processes(f.at(1), f.process(101)))
    assert said(world.attribution(f.check_flow())) == ("check", "be/s1", CERTAIN)
    assert said(world.attribution(f.check_flow(comm=""))) == ("check", "be/s1", CERTAIN)


def test_an_unknown_owner_makes_it_less_sure() -> None:
    flow = f.check_flow(pid=0, comm="", inode=77)
    world = table(*haproxy())
    assert said(world.attribution(flow)) == ("check", "be/s1", LIKELY)
    world.apply(f.holders(f.at(1), (f.WORKER, 12, 77)))
    assert said(world.attribution(flow)) == ("check", "be/s1", CERTAIN)


def test_of_several_holders_haproxy_counts() -> None:
    flow = f.check_flow(pid=0, comm="", inode=77)
    holders = f.holders(f.at(1), (4_000, 3, 77), (f.WORKER, 12, 77), p4000="nginx")
    assert said(of(flow, holders))[0] == "check"


def test_a_gone_worker_has_handed_its_listener_on() -> None:
    listener = f.listener_flow()
    world = table(*haproxy(), f.processes(f.at(1), f.process(101)), f.configured(f.at(1), pid=101))
    world.apply(f.holders(f.at(2), (101, 6, listener.inode)))
    found = world.attribution(listener)
    assert said(found) == ("listener", "fe", CERTAIN)
    assert "its configuration" in found.reason


def test_who_let_go_tells_the_owner_of_an_ended_flow() -> None:
    flow = f.tcp_check(pid=0, comm="")._replace(closer=f.WORKER)
    assert said(of(flow)) == ("check", "be/s1", CERTAIN)


def test_another_process_is_an_application() -> None:
    found = of(f.flow(pid=4_000, comm="curl"), **EVERYTHING)
    assert said(found) == ("application", "", LIKELY)
    assert "curl" in found.reason


def test_haproxy_under_another_name() -> None:
    processes = f.processes(f.at(1), f.process(comm="haproxy-3.0"))
    world = table(processes, f.servers(f.at(1)))
    assert said(world.attribution(f.check_flow(pid=101, comm="haproxy-3.0")))[0] == "check"
    assert said(world.attribution(f.check_flow(pid=101, comm="nginx")))[0] == "application"


def test_an_external_check_connects_from_a_child() -> None:
    server = f.same_port_server(settings=CheckSettings(kind="external"))
    child = f.flow(pid=4_000, comm="check.sh")
    assert said(table(*haproxy(server)).attribution(child)) == ("check", "be/s1", POSSIBLE)


def test_who_talks_to_a_command_socket() -> None:
    socket = f.master_socket(path="127.0.0.1:9999", master=False, pid=f.WORKER)
    sockets = events.CommandSockets(f.at(1), (socket,), (), (), {})
    caller = f.flow(pid=4_000, comm="socat", raddr="127.0.0.1", rport=9999)
    assert said(of(caller, sockets, **EVERYTHING)) == ("cli", "", LIKELY)
    served = f.client_flow(laddr="127.0.0.1", lport=9999)
    assert said(of(served, sockets)) == ("cli", "", CERTAIN)
    assert said(of(f.client_flow(), sockets)) == ("client", "fe", CERTAIN)


# What comes in -----------------------------------------------------------------------------


def test_a_client_comes_to_a_frontend() -> None:
    assert said(of(f.client_flow())) == ("client", "fe", CERTAIN)


def test_two_frontends_with_one_port_differ_by_address() -> None:
    binds = [Bind("one", packed("192.0.2.100"), 80), Bind("two", packed("192.0.2.101"), 80)]
    configured = f.configured(f.at(1), *binds)
    assert said(of(f.client_flow(laddr="192.0.2.101"), configured)) == ("client", "two", CERTAIN)


def test_a_client_of_an_old_worker_on_a_port_of_the_new_configuration() -> None:
    processes = f.processes(f.at(1), f.process(), f.process(OLD, Kind.OLD_WORKER))
    found = of(f.client_flow(pid=OLD), processes)
    assert said(found) == ("client", "fe", LIKELY)
    assert "its own is unknown" in found.reason


def test_a_client_on_a_port_that_nobody_binds() -> None:
    found = of(f.client_flow(lport=59_044))
    assert said(found) == ("client", "", LIKELY)
    assert "no known configuration" in found.reason


def test_a_connection_nobody_accepted() -> None:
    flow = f.client_flow(pid=0, comm="", inode=0, flags=int(Flag.ACCEPTED))
    found = of(flow)
    assert said(found) == ("client", "fe", LIKELY)
    assert "accept" in found.reason
    assert said(of(flow._replace(lport=81))) == ("unknown", "", POSSIBLE)


def test_binds_of_another_network_namespace_do_not_count() -> None:
    processes = f.processes(f.at(1), f.process(netns=111), f.process(200, netns=222))
    there = f.configured(f.at(1), Bind("there", packed("0.0.0.0"), 80), pid=200)
    row = f.client_target(netns=111)
    world = table(*haproxy(), processes, there)
    assert said(world.target_attribution(row)) == ("client", "fe", CERTAIN)


def test_listeners() -> None:
    assert said(of(f.listener_flow())) == ("listener", "fe", CERTAIN)
    assert "no known configuration" in of(f.listener_flow(lport=59_044)).reason
    application = f.listener_flow(pid=4_000, comm="nginx", laddr=f.SERVER, lport=f.SERVICE_PORT)
    assert said(of(application, **EVERYTHING)) == ("listener", "be/s1", CERTAIN)


def test_an_application_where_haproxy_connects_to() -> None:
    flow = f.client_flow(pid=4_000, comm="beam.smp", laddr=f.SERVER, lport=f.CHECK_PORT)
    assert said(of(flow, **EVERYTHING)) == ("application", "be/s1", CERTAIN)
    other = f.client_flow(pid=4_000, comm="sshd", lport=22)
    assert said(of(other, **EVERYTHING)) == ("application", "", LIKELY)


@pytest.mark.parametrize("direction", [Flag.CONNECTED, Flag(0)])
def test_listeners_tell_the_direction_of_adopted_flows(direction: Flag) -> None:
    """The inventory guesses by the listeners that it has met so far."""
    flow = f.client_flow(flags=int(Flag.ADOPTED | Flag.OWNED | direction))
    assert said(of(flow, f.open_scan(f.at(1), f.listener_flow(), flow)))[0] == "client"


def test_a_target_tells_the_direction_of_adopted_flows() -> None:
    flow = f.client_flow(flags=int(Flag.ADOPTED | Flag.OWNED))
    assert said(of(flow, f.targets(f.at(1), f.client_target()))) == ("client", "fe", CERTAIN)
    assert said(of(flow, f.targets(f.at(1), f.client_target(port=81))))[0] == "unknown"


# Targets -----------------------------------------------------------------------------------


def test_targets_by_what_most_of_their_flows_are() -> None:
    world = table(
        *haproxy(
            f.server(), f.same_port_server("s2", address="192.0.2.2", check_address="192.0.2.2")
        )
    )
    assert said(world.target_attribution(f.target())) == ("check", "be/s1", CERTAIN)
    assert said(world.target_attribution(f.data_target())) == ("server", "be/s1", CERTAIN)
    both = world.target_attribution(f.data_target(address="192.0.2.2"))
    assert said(both) == ("server", "be/s2", LIKELY)
    assert "both" in both.reason
    assert said(world.target_attribution(f.client_target())) == ("client", "fe", CERTAIN)
    assert said(world.target_attribution(f.client_target(port=81))) == ("client", "", POSSIBLE)


def test_inbound_targets_out_of_haproxys_scope() -> None:
    other = f.client_target(port=8080)
    assert said(table(**EVERYTHING).target_attribution(other)) == ("application", "", LIKELY)
    told = table(f.processes(f.at(0)), **EVERYTHING)
    assert said(told.target_attribution(other)) == ("unknown", "", POSSIBLE)
    world = table(*haproxy(), **EVERYTHING)
    assert said(world.target_attribution(other)) == ("application", "", LIKELY)
    backend = f.client_target(address=f.SERVER, port=f.SERVICE_PORT)
    assert said(world.target_attribution(backend)) == ("application", "be/s1", CERTAIN)


def test_a_targets_answer_follows_what_is_learned() -> None:
    world = table()
    assert world.target_attribution(f.target()).role == "unknown"
    for event in haproxy():
        world.apply(event)
    assert world.target_attribution(f.target()).role == "check"
    world.apply(f.servers(f.at(2), f.server(check_port=8001)))
    found = world.target_attribution(f.target())
    assert said(found) == ("check", "be/s1", LIKELY)
    assert "until" in found.reason


# HAProxy's word ----------------------------------------------------------------------------


def shared(*more: events.Event) -> list[events.Event]:
    """A server which is checked where it serves."""
    return [*haproxy(f.same_port_server()), *more]


def test_show_fd_makes_a_check_certain() -> None:
    flow = f.flow(sent_bytes=60)
    lines = f.descriptors(f.at(9), f.descriptor(10, "check", remote_port=f.SERVICE_PORT))
    world = table(*shared(f.holders_of(f.at(8), flow), lines))
    assert said(world.attribution(flow)) == ("check", "be/s1", CERTAIN)


def test_no_stream_makes_no_check_of_a_session() -> None:
    """`show fd` calls a leaked session of `mode tcp` a check: no stream has it any more."""
    leaked = f.half_closed(f.flow())
    line = f.descriptors(f.at(9), f.descriptor(10, "check"))
    elsewhere = table(*haproxy(), f.holders_of(f.at(8), leaked), line)
    assert said(elsewhere.attribution(leaked)) == ("server", "be/s1", CERTAIN)
    large = leaked._replace(received_bytes=1 << 20)
    world = table(*shared(f.holders_of(f.at(8), large), line))
    assert said(world.attribution(large)) == ("server", "be/s1", LIKELY)


def test_show_fd_names_the_one_of_several_servers() -> None:
    servers = [f.server(), f.server("s2", address="192.0.2.2")]
    flow = f.check_flow()
    lines = f.descriptors(f.at(9), f.descriptor(10, "server", server="be/s2"))
    world = table(*haproxy(*servers), f.holders_of(f.at(8), flow), lines)
    assert said(world.attribution(flow)) == ("check", "be/s2", CERTAIN)


def test_show_fd_does_not_tell_a_tcp_check_from_a_session() -> None:
    silent = f.flow(sent_bytes=0, received_bytes=0)
    spoke = f.flow()
    lines = f.descriptors(f.at(9), f.descriptor(10, "server"), f.descriptor(11, "server"))
    world = table(*shared(f.holders_of(f.at(8), silent, spoke), lines))
    assert said(world.attribution(silent)) == ("check", "be/s1", POSSIBLE)
    assert said(world.attribution(spoke)) == ("server", "be/s1", LIKELY)


def test_show_sess_makes_a_session_certain() -> None:
    silent = f.flow(sent_bytes=0, received_bytes=0)
    asked = f.streams(f.at(9), f.stream(server="s1", back_fd=10))
    world = table(*shared(f.holders_of(f.at(8), silent), asked))
    assert said(world.attribution(silent)) == ("server", "be/s1", CERTAIN)


def test_a_silent_flow_of_no_stream_is_likely_a_check() -> None:
    silent = f.flow(sent_bytes=0, received_bytes=0)
    held = f.holders_of(f.at(8), silent)
    complete = table(*shared(held, f.streams(f.at(9), f.stream(back_fd=99))))
    assert said(complete.attribution(silent)) == ("check", "be/s1", LIKELY)
    cut = table(*shared(held, f.streams(f.at(9), f.stream(back_fd=99), complete=False)))
    assert said(cut.attribution(silent)) == ("check", "be/s1", POSSIBLE)


def test_an_answer_does_not_hold_for_later_sockets() -> None:
    """The fd was closed, and given to this flow since."""
    flow = f.flow(born=10, sent_bytes=0, received_bytes=0)
    lines = f.descriptors(f.at(9), f.descriptor(10, "check"))
    asked = f.streams(f.at(9), f.stream(back_fd=10))
    world = table(*shared(f.holders_of(f.at(11), flow), lines, asked))
    assert said(world.attribution(flow)) == ("check", "be/s1", POSSIBLE)


def test_an_fd_with_other_ports_is_another_socket() -> None:
    flow = f.flow(sent_bytes=0, received_bytes=0)
    lines = f.descriptors(f.at(9), f.descriptor(10, "check", local_port=flow.lport + 1))
    world = table(*shared(f.holders_of(f.at(8), flow), lines))
    assert said(world.attribution(flow)) == ("check", "be/s1", POSSIBLE)


def test_a_stream_names_both_its_sides() -> None:
    front, back = f.client_flow(), f.flow()
    asked = f.streams(f.at(9), f.stream(front_fd=10, back_fd=11, frontend="www", server="s9"))
    world = table(*haproxy(), f.holders_of(f.at(8), front, back), asked)
    assert said(world.attribution(front)) == ("client", "www", CERTAIN)
    assert said(world.attribution(back)) == ("server", "be/s9", CERTAIN)


def test_a_ghost_without_addresses_is_known_by_its_fd() -> None:
    flow = f.ghost(f.flow(raddr="0.0.0.0", rport=0, flags=int(Flag.ADOPTED | Flag.OWNED)))
    world = table(*haproxy(), f.holders_of(f.at(8), flow))
    assert world.attribution(flow).role == "unknown"
    world.apply(f.descriptors(f.at(9), f.descriptor(10, "server")))
    assert said(world.attribution(flow)) == ("server", "be/s1", LIKELY)


@pytest.mark.parametrize(
    ("line", "role", "label"),
    [
        (f.descriptor(10, "client", frontend="www"), "client", "www"),
        (f.descriptor(10, "cli"), "cli", ""),
        (f.descriptor(10, "master-cli"), "master-cli", ""),
        (f.descriptor(10, "other"), "client", "fe"),
    ],
)
def test_accepted_sockets_by_show_fd(line: events.Descriptor, role: str, label: str) -> None:
    flow = f.client_flow()
    world = table(*haproxy(), f.holders_of(f.at(8), flow), f.descriptors(f.at(9), line))
    assert said(world.attribution(flow)) == (role, label, CERTAIN)


def test_the_command_line_shows_up_in_show_sess() -> None:
    flow = f.client_flow()
    asked = f.streams(f.at(9), f.stream(front_fd=10, frontend="GLOBAL"))
    world = table(*haproxy(), f.holders_of(f.at(8), flow), asked)
    assert said(world.attribution(flow)) == ("cli", "", CERTAIN)


def test_reload_the_same_server_by_a_new_worker() -> None:
    world = table(*haproxy())
    world.apply(f.processes(f.at(2), f.process(kind=Kind.OLD_WORKER), f.process(101)))
    new = f.check_flow(3, pid=101)
    assert said(world.attribution(new)) == ("check", "be/s1", LIKELY)
    world.apply(f.servers(f.at(4), pid=101))
    assert said(world.attribution(new)) == ("check", "be/s1", CERTAIN)
    assert said(world.attribution(f.check_flow())) == ("check", "be/s1", CERTAIN)


def test_states_do_not_change_the_role() -> None:
    for flow in (f.half_closed(f.check_flow()), f.ghost(f.check_flow(), by_reset=True)):
        assert said(of(flow)) == ("check", "be/s1", CERTAIN)
    assert said(of(f.check_flow(state=int(State.SYN_SENT), established_ns=0)))[0] == "check"
