"""What `hatrace check` prints."""

from __future__ import annotations

import json

from hatrace import checks
from hatrace.model.setup import Validation
from hatrace.sinks import checked
from tests.unit.checks.setups import DEFAULTS, HEALTHY, setup

EVIL = DEFAULTS + "listen a\n    bind :40000\n    # \n    server \x1b[31mred 192.0.2.1:80 check\n"


def test_nothing_of_the_configuration_reaches_a_terminal_as_it_is() -> None:
    words = Validation(True, "/usr/sbin/haproxy", "3.2.4", ("[WARNING] \x1b]0;x\x07",))
    text = checked.as_text(checks.ask(setup(EVIL.replace("option httpchk", ""), validation=words)))
    assert "\\x1b[31mred" in text
    assert "\\x1b]0;x" in text
    assert all(char.isprintable() or char == "\n" for char in text)


def test_json_is_one_ascii_line() -> None:
    line = checked.as_json(checks.ask(setup(EVIL + "backend ü\n")))
    assert line.isascii() and "\n" not in line
    answer = json.loads(line)
    assert answer["files"] == ["haproxy.cfg"]
    assert answer["findings"][0]["slug"]
    assert answer["health_checks"][0]["per_day"] == 43_200
    assert answer["validation"] is None
    assert {"question", "why"} == set(answer["not_asked"][0])


def test_the_last_line_counts() -> None:
    told = checks.ask(setup(EVIL.replace("hard-stop-after 15m", "")))
    assert checked.as_text(told).splitlines()[-1].startswith("1 warning, ")
    assert list(checked.summary(())) == ["nothing found"]


def test_commands_are_not_wrapped() -> None:
    ports = ",".join(f":{port}" for port in range(40000, 40100, 2))
    text = checked.as_text(checks.ask(setup(f"{DEFAULTS}listen a\n    bind {ports}\n")))
    (command,) = (line for line in text.splitlines() if "sysctl -w" in line)
    assert command.endswith("40096,40098")


def test_a_healthy_one_has_its_arithmetic() -> None:
    text = checked.as_text(checks.ask(setup(DEFAULTS + HEALTHY, "3.4.99", bugs=())))
    assert "web      2        http   2s     2/3        12s      4s     86,400" in text
    assert "Descriptors: maxconn 1,000 (configured) needs 2,019 of 20,000" in text
    assert text.splitlines()[-1] == "nothing found"
