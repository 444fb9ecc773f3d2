"""Maps: sizes that fit a host, and map numbers in instructions replaced by fds."""

from __future__ import annotations

import re
import socket
import struct

import pytest

from hatrace.kernel import maps, wire
from hatrace.kernel.maps import MapId, Shape, Sizes, fitting
from hatrace.resources import bpf_dir

LD_IMM64, MOV, EXIT = 0x18, 0xB7, 0x95
MAP_FD = 1 << 4


def instruction(opcode: int, registers: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("<BBhi", opcode, registers, 0, immediate)


def test_map_numbers_become_fds() -> None:
    code = (
        instruction(LD_IMM64, MAP_FD | 2, MapId.FLOWS)
        + instruction(0)
        + instruction(MOV, 0, MapId.FLOWS)
        + instruction(LD_IMM64, MAP_FD | 1, MapId.RING)
        + instruction(0)
        + instruction(EXIT)
    )
    placed = maps.place(code, {MapId.FLOWS: 77, MapId.RING: 78})
    immediates = [immediate for *_, immediate in struct.iter_unpack("<BBhi", placed)]
    assert immediates == [77, 0, MapId.FLOWS, 78, 0, 0], "only where a map is meant"
    assert len(placed) == len(code)


def test_a_plain_constant_of_64_bits_is_left_alone() -> None:
    """Its second half may look like anything, also like an instruction that names a map."""
    second = struct.pack("<BBhi", LD_IMM64, MAP_FD, 0, MapId.FLOWS)
    code = instruction(LD_IMM64, 3, MapId.FLOWS) + second + instruction(EXIT)
    assert maps.place(code, {MapId.FLOWS: 77}) == code


def test_a_number_that_is_no_map_is_refused() -> None:
    with pytest.raises(ValueError, match="99"):
        maps.place(instruction(LD_IMM64, MAP_FD, 99) + instruction(0), {})


def test_the_numbers_are_those_of_the_c_side() -> None:
    text = (bpf_dir() / "maps.h").read_text()
    body = re.search(r"enum map \{(.*?)\n\};", text, re.DOTALL)
    assert body
    names = re.findall(r"^\tMAP_(\w+)", body[1], re.MULTILINE)
    assert "MAP_FLOWS = 1," in body[1]
    assert [member.name for member in MapId] == names
    assert [member.value for member in MapId] == list(range(1, len(names) + 1))


def test_every_map_has_a_shape() -> None:
    shapes = maps.shapes(Sizes())
    assert shapes.keys() == set(MapId)
    assert all(isinstance(shape, Shape) and shape.entries > 0 for shape in shapes.values())


@pytest.mark.parametrize(
    ("sockets", "flows"),
    [
        (None, maps.COMMON_FLOWS),
        (10, maps.COMMON_FLOWS),
        (60_000, 1 << 19),
        (2_000_000, maps.MOST_FLOWS),
    ],
)
def test_room_for_flows(sockets: int | None, flows: int) -> None:
    assert fitting(sockets).flows == flows


def test_the_sockets_of_this_kernel() -> None:
    with socket.create_server(("127.0.0.1", 0)):
        assert (maps.sockets_here() or 0) >= 1


@pytest.mark.parametrize(
    ("cpus", "ring_bytes", "flows"),
    [(2, 8 << 20, 4096), (16, 8 << 20, 2048), (128, 8 << 20, 256), (2, 4096, 8), (256, 4096, 1)],
)
def test_room_of_lanes(
    cpus: int, ring_bytes: int, flows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maps, "possible_cpus", lambda: cpus)
    sizes = Sizes(ring_bytes=ring_bytes)
    assert sizes.lane_flows == flows
    blocks = maps.shapes(sizes)[MapId.LANE_FLOWS].entries
    assert blocks == cpus * max(1, flows // wire.BLOCK_FLOWS)


def test_possible_cpus() -> None:
    assert maps.possible_cpus() >= 1
