"""HAProxies that answer from a script, and a desk that remembers: the seams of the actions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from hatrace.actions.desk import Change
from hatrace.actions.haproxies import Haproxies
from hatrace.haproxy import parse
from hatrace.haproxy.runtime import NoAnswer, Problem
from hatrace.model.event import Action, Event
from hatrace.model.finding import Evidence
from hatrace.model.topology import Process

Answer = str | Callable[[str], str]

SERVERS = """1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state \
srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl \
srv_check_port srv_check_addr srv_agent_addr srv_agent_port
"""
"""The head of `show servers state` of 2.6."""


def servers(*rows: tuple[str, str, int]) -> str:
    """`show servers state` of ``backend/server``, address and port of each."""
    lines = (
        f"3 {label.split('/')[0]} 1 {label.split('/')[1]} {host} 2 0 1 1 3 6 3 4 6 0 0 0 - {port}"
        " - 0 0 - - 0\n"
        for label, host, port in rows
    )
    return f"{SERVERS}{''.join(lines)}\n"


def stat(label: str, status: str = "UP", sessions: int = 0) -> str:
    """`show stat` of one server."""
    backend, name = label.split("/")
    head = "# pxname,svname,scur,status,type,"
    return f"{head}\n{backend},{name},{sessions},{status},2,\n\n"


def sess(*rows: tuple[str, str, int, int]) -> str:
    """`show sess`: pointer, ``backend/server``, front fd, back fd of each stream."""
    return "".join(
        f"{pointer}: proto=tcpv4 src=198.51.100.7:50000 fe=fe be={label.split('/')[0]} "
        f"srv={label.split('/')[1]} ts=00 epoch=0 age=3s calls=2 rate=0 cpu=0 lat=0 "
        f"scf=[8,0h,fd={front}] scb=[8,1h,fd={back}] exp=59s rc=0 c_exp=\n"
        for pointer, label, front, back in rows
    )


class Scripted(Haproxies):
    """Processes and their answers; what is not in the script is refused as unknown."""

    def __init__(self, processes: Iterable[Process], script: dict[tuple[int, str], Answer]) -> None:
        super().__init__(None)
        self.processes = tuple(processes)
        self.script = script
        self.asked: list[tuple[int, str]] = []

    def look(self) -> None:
        pass

    def ask(self, process: Process, command: str, deadline_s: float = 3.0) -> str:
        self.asked.append((process.pid, command))
        for (pid, start), answer in self.script.items():
            if pid == process.pid and command.startswith(start):
                return answer if isinstance(answer, str) else answer(command)
        raise NoAnswer(Problem.UNKNOWN, command, "this HAProxy does not know the command")

    def identify(self, process: Process) -> dict[str, str]:
        return parse.info(self.ask(process, "show info"))

    def by_hand(self, process: Process, command: str) -> str:
        return f"tell {process.pid} {command}"

    def commands(self, pid: int) -> list[str]:
        """What one process was asked that is no question."""
        return [said for asked, said in self.asked if asked == pid and not said.startswith("show")]


class Memory:
    """A desk that says yes (or what it was told to), and keeps everything."""

    def __init__(self, *answers: bool, dry_run: bool = False) -> None:
        self.dry_run = dry_run
        self._answers = list(answers)
        self.said: list[str] = []
        self.offered: list[Change] = []
        self.actions: list[Action] = []
        self.events: list[Event] = []
        self.rows: list[Evidence] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def show(self, title: str, rows: Sequence[Evidence]) -> None:
        self.said.append(title)
        self.rows = list(rows)

    def agreed(self, change: Change) -> bool:
        self.offered.append(change)
        if self.dry_run:
            return False
        return self._answers.pop(0) if self._answers else True

    def did(self, change: Change, result: str) -> None:
        self.actions.append(Action(len(self.actions), change.record or change.text, result))

    def saw(self, event: Event) -> None:
        self.events.append(event)
