"""Break valid files: bytes at random, and the values of a JSON."""

import json
import struct
import zlib
from random import Random
from typing import Any

PNG = b"\x89PNG\r\n\x1a\n"
EDGES = (0, 1, 2, 7, 8, 127, 128, 255, 256, 32767, 32768, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
"""Whole numbers at which counters and sizes go wrong."""
ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    0.5,
    -0.0,
    1e308,
    -1e308,
    float("nan"),
    float("inf"),
    2**31,
    2**63,
    2**64,
    -(2**63) - 1,
    10**400,
    "",
    "x",
    "\ud800",
    "../../etc",
    "\x00",
    "1",
    [],
    {},
    [[]],
    [{}],
    [None],
    [[[]]],
    [0, 0, 0, 0],
    [1e308] * 6,
    [float("nan")] * 6,
    {"size": [9, 9], "counts": "zzzz"},
    {"size": [9, 9], "counts": [1, 2]},
    {"size": [-1, 2**40], "counts": ""},
    {"type": "Polygon", "coordinates": [[]]},
    {"type": "GeometryCollection", "geometries": []},
)


def mutate_bytes(content: bytes, random: Random) -> bytes:
    """Return a file with one to eight changes: other bytes, numbers at their edges, parts cut, doubled or moved."""
    broken = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        random.choice((_other_byte, _other_bit, _edge, _cut_part, _double_part, _zero_part, _cut_end))(broken, random)
    if broken.startswith(PNG) and random.random() < 0.7:
        return _with_right_sums(bytes(broken))
    return bytes(broken)


def _place(broken: bytearray, random: Random) -> int:
    """Return a place in a file; headers, where the damage is greatest, are met half of the time."""
    end = min(len(broken), 200) if random.random() < 0.5 else len(broken)
    return random.randrange(max(1, end))


def _other_byte(broken: bytearray, random: Random) -> None:
    if broken:
        broken[_place(broken, random)] = random.randrange(256)


def _other_bit(broken: bytearray, random: Random) -> None:
    if broken:
        broken[_place(broken, random)] ^= 1 << random.randrange(8)


def _edge(broken: bytearray, random: Random) -> None:
    at, size = _place(broken, random), random.choice((1, 2, 4, 8))
    order = random.choice("<>")
    value = random.choice(EDGES) & (256**size - 1)
    broken[at : at + size] = struct.pack(order + {1: "B", 2: "H", 4: "I", 8: "Q"}[size], value)


def _cut_part(broken: bytearray, random: Random) -> None:
    at = _place(broken, random)
    del broken[at : at + random.choice((1, 4, 16, 100))]


def _double_part(broken: bytearray, random: Random) -> None:
    at, size = _place(broken, random), random.choice((1, 4, 16, 100))
    there = _place(broken, random)
    broken[there:there] = broken[at : at + size]


def _zero_part(broken: bytearray, random: Random) -> None:
    at, size = _place(broken, random), random.choice((2, 8, 64))
    broken[at : at + size] = bytes(len(broken[at : at + size]))


def _cut_end(broken: bytearray, random: Random) -> None:
    del broken[_place(broken, random) :]


def _with_right_sums(content: bytes) -> bytes:
    """Return a PNG whose chunks have the right check sums, so that more than those is tried."""
    made, at = [content[:8]], 8
    while at + 12 <= len(content):
        (size,) = struct.unpack(">I", content[at : at + 4])
        body = content[at + 4 : at + 8 + size]
        made.append(content[at : at + 8 + size] + struct.pack(">I", zlib.crc32(body)))
        at += 12 + size
    return b"".join(made) + content[at:]


def mutate_json(text: str, random: Random) -> bytes:
    """Return a JSON of which some values are odd, absent or doubled, or of which some bytes are broken."""
    if random.random() < 0.2:
        return mutate_bytes(text.encode(), random)
    document = json.loads(text)
    for _ in range(random.choice((1, 1, 2, 4))):
        document = _with_odd_value(document, random)
    return json.dumps(document).encode()


def _with_odd_value(document: Any, random: Random) -> Any:
    """Return a document with another value somewhere, deeper ones as likely as higher ones."""
    if isinstance(document, dict) and document and random.random() < 0.85:
        key = random.choice(list(document))
        if random.random() < 0.15:
            return {name: value for name, value in document.items() if name != key}
        return document | {key: _with_odd_value(document[key], random)}
    if isinstance(document, list) and document and random.random() < 0.85:
        at = random.randrange(len(document))
        middle = random.choice(([], [document[at]] * 2, *[[_with_odd_value(document[at], random)]] * 6))
        return [*document[:at], *middle, *document[at + 1 :]]
    return random.choice(ODD_VALUES)
