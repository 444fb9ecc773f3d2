"""Tables of the runtime API, as four versions of HAProxy really wrote them."""

from __future__ import annotations

import random

import pytest

from hatrace.haproxy import lines, parse, servers
from hatrace.haproxy.config_proxy import ConfiguredServer
from hatrace.haproxy.config_words import address
from hatrace.model.address import packed
from hatrace.model.topology import CheckSettings, Level, Server

from .recorded import VERSIONS, recorded

LOCAL = packed("127.0.0.1")


def merged(
    version: str, configured: dict[str, ConfiguredServer] | None = None
) -> dict[str, Server]:
    states = parse.servers_state(recorded(version, "servers_state.txt"))
    found = servers.merged(states, parse.stat(recorded(version, "stat.csv")), configured or {})
    return {server.label: server for server in found}


@pytest.mark.parametrize("version", VERSIONS)
def test_info_has_names_and_values(version: str) -> None:
    values = parse.info(recorded(version, "info.txt"))
    assert values["Version"].startswith(version)
    assert values["Name"] == "HAProxy"
    assert int(values["Pid"]) > 1
    assert values["Stopping"] == "0"


def test_info_leaves_out_a_last_line_that_was_cut() -> None:
    assert parse.info("Name: HAProxy\nCurrConns: 12") == {"Name": "HAProxy"}


@pytest.mark.parametrize("version", VERSIONS)
def test_servers_by_every_version(version: str) -> None:
    found = merged(version)
    assert set(found) == {
        *(f"be_tcp/s{n}" for n in range(4)),
        *(f"be_http/h{n}" for n in range(6)),
        "be_stuck/t0",
        "be_slow/w0",
    }
    plain = found["be_tcp/s0"]
    assert (plain.address, plain.port, plain.check_port) == (LOCAL, 22010, 22010)
    assert (plain.mode, plain.status, plain.check_status) == ("tcp", "UP", "L4OK")
    assert plain.checked and not plain.agent_checked and not plain.backup
    assert found["be_tcp/s1"].backup
    assert found["be_tcp/s2"].status == "DOWN"
    assert found["be_tcp/s2"].check_status == "L4CON"
    assert not found["be_tcp/s3"].checked
    assert found["be_http/h4"].address == packed("::1")
    unchecked = found["be_http/h5"]
    assert (unchecked.checked, unchecked.status, unchecked.check_status) == (
        False,
        "no check",
        None,
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_an_agent_has_its_own_port(version: str) -> None:
    server = merged(version)["be_http/h2"]
    assert server.agent_checked
    assert server.agent_address == LOCAL
    assert server.agent_port == (0 if version == "2.2" else 22014)


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_check_addresses_from_2_4_on(version: str) -> None:
    """srv_agent_addr and port repeat the check's where there is no agent: not taken over."""
    server = merged(version)["be_http/h1"]
    assert (server.check_address, server.check_port) == (packed("127.0.0.2"), 22011)
    assert (server.agent_checked, server.agent_address, server.agent_port) == (False, None, 0)


def test_before_2_4_the_configuration_tells_the_check_address() -> None:
    line = ConfiguredServer(
        mode="http",
        address=address("127.0.0.1:22010"),
        checked=True,
        check_address=address("127.0.0.2"),
        check_port=22011,
        agent_checked=False,
        agent_address=None,
        agent_port=None,
        backup=True,
        settings=CheckSettings(inter_ms=500),
    )
    server = merged("2.2", {"be_http/h1": line})["be_http/h1"]
    assert (server.check_address, server.check_port) == (packed("127.0.0.2"), 22011)
    assert server.settings.inter_ms == 500


def test_a_running_check_is_no_part_of_its_status() -> None:
    row = "# pxname,svname,type,check_status\nbe,s,2,* L7TOUT\n\n"
    assert parse.stat(row)["be/s"].check_status == "L7TOUT"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["stat.csv", "servers_state.txt", "servers_conn.txt", "proc.txt"])
def test_a_cut_answer_gives_what_is_whole(version: str, name: str) -> None:
    """Cut anywhere, no table raises, and none invents a server or process."""
    text = recorded(version, name)
    labels = set(merged(version))
    for end in range(0, len(text), 37):
        cut = text[:end]
        states = parse.servers_state(cut) if name == "servers_state.txt" else ()
        assert {f"{state.backend}/{state.name}" for state in states} <= labels
        if name == "servers_conn.txt":
            assert set(parse.servers_connections(cut)) <= labels
        if name == "proc.txt":
            assert {each.kind for each in parse.processes(cut)} <= {"master", "worker"}
        if name == "stat.csv":
            assert all(label.startswith("be_") for label in parse.stat(cut))


@pytest.mark.parametrize("version", VERSIONS)
def test_processes_before_and_after_a_reload(version: str) -> None:
    before = parse.processes(recorded(version, "proc.txt"))
    assert [(each.kind, each.old, each.reloads) for each in before] == [
        ("master", False, 0),
        ("worker", False, 0),
    ]
    after = parse.processes(recorded(version, "proc_reloaded.txt"))
    assert [(each.kind, each.old, each.reloads) for each in after] == [
        ("master", False, 1),
        ("worker", False, 0),
        ("worker", True, 1),
    ]
    assert after[2].pid == before[1].pid
    assert all((each.version or "").startswith(version) for each in after)
    assert before[0].failed_reloads == (None if version == "2.2" else 0)


@pytest.mark.parametrize("version", VERSIONS)
def test_command_sockets_without_those_to_the_master(version: str) -> None:
    found = parse.cli_sockets(recorded(version, "cli_sockets.txt"))
    assert [each.level for each in found] == [Level.ADMIN, Level.OPERATOR]
    assert found[0].path.startswith("unix@/")
    assert found[1].path == "ipv4@127.0.0.1:22002"


@pytest.mark.parametrize("version", VERSIONS)
def test_idle_connections(version: str) -> None:
    assert parse.servers_connections(recorded(version, "servers_conn.txt"))["be_http/h0"].idle == 1


def test_the_columns_of_3_3_are_found_by_name() -> None:
    text = (
        "# bkname/svname bkid/svid addr port - purge_delay served used_cur used_max need_est"
        " idle_sess unsafe_nb safe_nb idle_lim idle_cur idle_per_thr[2]\n"
        "be/s 3/1 127.0.0.1 80 - 5000 9 4 5 1 0 0 0 -1 7 3 4\n\n"
    )
    assert parse.servers_connections(text) == {"be/s": parse.ServerConnections(used=4, idle=7)}


def test_trace_sources_and_drops() -> None:
    text = (
        "Supported trace sources and states (.=stopped, w=waiting, R=running) :\n"
        " [.] 0          : not a source, will immediately stop all traces\n"
        " [R] check      : Health-check\n"
    )
    assert parse.trace_state(text, "check") == "R"
    assert parse.trace_state(text, "h2") is None
    sinks = "    buf0       : type=buffer, 17 dropped, in-memory ring buffer\n"
    assert dict(parse.drops(sinks)) == {"buf0": 17}
    assert dict(parse.drops(" [.] check      -> none [drp 3]  [Health-check]\n")) == {"check": 3}


@pytest.mark.parametrize("seed", range(8))
def test_no_garbage_raises(seed: int) -> None:
    """Real answers with characters changed, dropped and doubled anywhere."""
    dice = random.Random(seed)
    for version in VERSIONS:
        for name in ("stat.csv", "servers_state.txt", "proc.txt", "sess.txt", "fd.txt", "info.txt"):
            text = list(recorded(version, name))
            for _ in range(60):
                at = dice.randrange(len(text))
                text[at] = dice.choice(["", "\n", "\0", ",", " ", '"', "=", "[", "0x", "\ufffd"])
            broken = "".join(text)
            states = parse.servers_state(broken)
            servers.merged(states, parse.stat(broken), {})
            parse.processes(broken), parse.info(broken), parse.cli_sockets(broken)
            parse.servers_connections(broken), list(lines.check_lines(broken))
            found = lines.descriptors(broken, {each.back_fd for each in lines.streams(broken)})
            assert all(each.fd >= 0 for each in found)
