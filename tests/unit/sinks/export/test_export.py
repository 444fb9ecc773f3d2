from __future__ import annotations

import csv
import functools
import io
import json
from datetime import UTC, datetime

from hatrace.model.event import Event, Tick
from hatrace.model.finding import Evidence
from hatrace.model.flow import FIELDS
from hatrace.sinks.export.printers import write_csv, write_jsonl
from hatrace.sinks.export.rows import Row, finding_rows, flow_rows
from tests import factories as make
from tests.unit.capture import samples


def a_session() -> list[Event]:
    stays = make.half_closed(make.flow(1, inode=11))
    goes = make.flow(2, inode=12, laddr="2001:db8::1", raddr="2001:db8::2")
    return [
        make.open_scan(make.at(3), stays, goes),
        make.finished(*(make.ended(make.flow(n / 10)) for n in range(5)), at_ns=make.at(4)),
        make.finished(make.ended(goes), at_ns=make.at(5)),
        make.open_scan(make.at(6), stays),
        Tick(make.at(6)),
    ]


@functools.cache
def rows() -> list[Row]:
    return list(flow_rows(make.info(), a_session()))


def test_every_flow_is_a_row_once() -> None:
    seen = [(row["seen"], row["inode"]) for row in rows()]
    assert len(seen) == 7
    assert seen[-2:] == [("ended", 12), ("open", 11)]


def test_a_row_has_every_field_and_a_wall_time() -> None:
    row = rows()[-1]
    fields = [field.name for field in FIELDS if field.name not in ("lport", "rport")]
    assert list(row) == ["seen", "at", *fields]
    assert row["state"] == "CLOSE_WAIT"
    assert row["raddr"] == "192.0.2.1:443"
    assert datetime.fromisoformat(row["at"]) == datetime.fromtimestamp(1_700_000_006, UTC)


def test_json_lines_are_the_rows() -> None:
    stream = io.StringIO()
    write_jsonl(rows(), stream)
    assert [json.loads(line) for line in stream.getvalue().splitlines()] == rows()


def test_csv_reads_back() -> None:
    stream = io.StringIO(newline="")
    write_csv(rows(), stream)
    read = list(csv.DictReader(io.StringIO(stream.getvalue(), newline="")))
    assert [row["inode"] for row in read] == [str(row["inode"]) for row in rows()]
    assert read[-1]["flags"] == "connected fin_received owned"
    assert read[5]["laddr"].startswith("[2001:db8::1]:")


def test_no_cell_is_a_formula_or_an_escape_sequence() -> None:
    for comm, cell in (("=cmd|x!A1", "'=cmd|x!A1"), ("@a", "'@a"), ("\x1b[31mx", "\\x1b[31mx")):
        stream = io.StringIO(newline="")
        events: list[Event] = [make.finished(make.ended(make.flow(comm=comm)))]
        write_csv(flow_rows(make.info(), events), stream)
        (row,) = csv.DictReader(io.StringIO(stream.getvalue(), newline=""))
        assert row["comm"] == cell
        lines = io.StringIO()
        write_jsonl(flow_rows(make.info(), events), lines)
        assert lines.getvalue().isascii()
        assert lines.getvalue().rstrip("\n").isprintable()


def test_a_state_that_no_kernel_has_is_a_number() -> None:
    odd = make.flow(state=77)
    (row,) = flow_rows(make.info(), [make.finished(odd)])
    assert row["state"] == Evidence.of(odd, make.at(3)).state == "STATE_77"


def test_nothing_makes_no_rows() -> None:
    for write in (write_csv, write_jsonl):
        stream = io.StringIO()
        write(flow_rows(make.info(), []), stream)
        assert stream.getvalue() == ""


def test_findings_are_rows_too() -> None:
    (row,) = finding_rows(make.info(), [samples.change()])
    assert (row["change"], row["slug"], row["count"]) == ("opened", "check-leak", 12)
    assert row["evidence"][0]["fd"] == 17
    stream = io.StringIO(newline="")
    write_csv([row], stream)
    (read,) = csv.DictReader(io.StringIO(stream.getvalue(), newline=""))
    assert json.loads(read["growth"]) == {"per_minute": 30.0, "interval_s": 10.0}
