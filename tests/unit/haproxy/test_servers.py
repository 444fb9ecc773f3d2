"""Servers from the configuration alone: for a HAProxy without a command-line socket."""

from __future__ import annotations

from pathlib import Path

from hatrace.haproxy import config, servers
from hatrace.model.address import packed

CONFIG = """
defaults
    mode tcp
    timeout check 3s
backend app
    option httpchk GET /health
    default-server inter 2s
    server one 192.0.2.1:443 check port 8000
    server two [2001:db8::2]:443 check addr 192.0.2.9 port 8001 backup
    server named app.example:443 check
    server quiet 192.0.2.3:443 agent-check agent-port 9000
"""


def test_what_the_lines_say_and_nothing_of_a_status(tmp_path: Path) -> None:
    file = tmp_path / "haproxy.cfg"
    file.write_text(CONFIG)
    found = servers.configured_only(config.read([file]).servers)
    one, two, named, quiet = found
    assert [server.label for server in found] == ["app/one", "app/two", "app/named", "app/quiet"]
    assert (one.address, one.port, one.check_port) == (packed("192.0.2.1"), 443, 8000)
    assert (one.checked, one.check_address, one.mode) == (True, packed("192.0.2.1"), "tcp")
    assert (one.settings.inter_ms, one.settings.kind) == (2000, "http")
    assert (two.check_address, two.check_port, two.backup) == (packed("192.0.2.9"), 8001, True)
    assert (named.address, named.check_port) == (None, 443)
    assert (quiet.checked, quiet.agent_checked, quiet.agent_port) == (False, True, 9000)
    assert {(server.status, server.check_status) for server in found} == {(None, None)}
