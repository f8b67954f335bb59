"""Bytes are those of an object only if a digest says so, or if there is none."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flat_bug.datasets.s3 import Facts
from flat_bug.datasets.s3_digests import MIB, Checked, Digests, Verdict, judge, part_sizes

CONTENT = bytes(range(256)) * 100
NOTHING_KNOWN = Facts("", "", None, encrypted=False)


def md5_of(content: bytes) -> bytes:
    return hashlib.md5(content, usedforsecurity=False).digest()


def etag_of(content: bytes, part_size: int | None = None) -> str:
    if part_size is None:
        return md5_of(content).hex()
    parts = [content[start : start + part_size] for start in range(0, len(content), part_size)] or [b""]
    return f"{md5_of(b''.join(map(md5_of, parts))).hex()}-{len(parts)}"


def verdict_on(content: bytes, etag: str, facts: Facts = NOTHING_KNOWN, size: int | None = None) -> Verdict:
    digests = Digests(len(content) if size is None else size, etag)
    digests.update(content)
    matched = digests.matched()
    return Verdict(matched, digests.sha256) if matched else judge(digests, facts, [content])


@given(st.binary(max_size=200), st.integers(1, 50), st.lists(st.integers(1, 40), max_size=20))
def test_the_etag_of_parts_does_not_depend_on_how_the_bytes_come(content: bytes, part: int, cuts: list[int]) -> None:
    digests = Digests(len(content), etag_of(content, part), part)
    rest = content
    for cut in cuts:
        digests.update(rest[:cut])
        rest = rest[cut:]
    digests.update(rest)
    assert digests.matched() is Checked.PARTS


@given(st.integers(1, 10**12), st.integers(1, 10_000))
def test_every_part_size_that_is_tried_gives_the_number_of_parts(size: int, parts: int) -> None:
    assert all(-(-size // each) == parts for each in part_sizes(size, parts))


@pytest.mark.parametrize("part_size", [5 * MIB, 8 * MIB, 10_000_000, 16 * MIB, 13 * MIB])
def test_usual_part_sizes_are_found(part_size: int) -> None:
    size = 3 * part_size - 17
    assert part_size in part_sizes(size, 3)


def test_a_changed_byte_is_noticed_whatever_the_etag() -> None:
    changed = b"\xff" + CONTENT[1:]
    sha256 = base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()
    md5 = base64.b64encode(md5_of(CONTENT)).decode()
    assert verdict_on(changed, etag_of(CONTENT)).checked is None
    assert verdict_on(changed, etag_of(CONTENT, 1000), Facts("", "", 1000, encrypted=False)).checked is None
    assert verdict_on(changed, "opaque", Facts(sha256, "", None, encrypted=True)).checked is None
    assert verdict_on(changed, etag_of(CONTENT, 999), Facts("", md5, None, encrypted=False)).checked is None


def test_the_right_bytes_are_recognised_by_whatever_digest_there_is() -> None:
    sha256 = base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()
    md5 = base64.b64encode(md5_of(CONTENT)).decode()
    assert verdict_on(CONTENT, etag_of(CONTENT)).checked is Checked.MD5
    known = Facts("", "", 1000, encrypted=False)
    assert verdict_on(CONTENT, etag_of(CONTENT, 1000), known).checked is Checked.PARTS
    assert verdict_on(CONTENT, "opaque", Facts(sha256, "", None, encrypted=True)).checked is Checked.SHA256
    assert verdict_on(CONTENT, etag_of(CONTENT, 999), Facts("", md5, None, encrypted=False)).checked is Checked.MD5
    assert verdict_on(b"", etag_of(b"")).checked is Checked.MD5


def test_where_the_server_has_no_digest_the_size_is_checked_and_that_is_said() -> None:
    encrypted = Facts("", "", None, encrypted=True)
    assert verdict_on(CONTENT, "0" * 32, encrypted).checked is Checked.SIZE
    assert verdict_on(CONTENT, "opaque").checked is Checked.SIZE
    assert verdict_on(CONTENT, f"{'0' * 32}-7", Facts("", "", 10, encrypted=False)).checked is Checked.SIZE
    assert verdict_on(CONTENT, "opaque", size=len(CONTENT) + 1).checked is None


def test_a_checksum_of_checksums_is_not_taken_for_one_of_the_object() -> None:
    of_parts = base64.b64encode(hashlib.sha256(b"parts").digest()).decode() + "-3"
    assert verdict_on(CONTENT, "opaque", Facts(of_parts, "", None, encrypted=False)).checked is Checked.SIZE
