"""Listings of servers that are old, broken or far away: complete, or refused."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from flat_bug.datasets.s3 import Bucket
from flat_bug.datasets.s3_access import Access
from flat_bug.errors import DatasetError


class _Lister(BaseHTTPRequestHandler):
    """Lists three objects, two to a page, as servers do that know only the first form of listing."""

    keys = ("a", "b\udcff", "c")
    follows_markers = True
    cut = 0

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query, errors="surrogateescape")
        after = query.get("marker", [""])[0] if self.follows_markers else ""
        page = [key for key in self.keys if key > after][:2]
        more = str(page[-1:] != list(self.keys[-1:])).lower()
        rows = "".join(
            f"<Contents><Key>{quote(key, errors='surrogateescape')}</Key><Size>1</Size>"
            "<LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
            for key in page
        )
        body = f"<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>{more}</IsTruncated>{rows}"
        whole = f"{body}</ListBucketResult>".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(whole)))
        self.end_headers()
        if type(self).cut:
            type(self).cut -= 1
            whole = whole[:-9]
        self.wfile.write(whole)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def lister() -> Iterator[Callable[..., Bucket]]:
    servers = []

    def begin(**members: object) -> Bucket:
        running = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Lister,), members))
        threading.Thread(target=running.serve_forever, daemon=True).start()
        servers.append(running)
        access = Access(f"http://127.0.0.1:{running.server_port}", "us-east-1", None, "nobody")
        return Bucket("bucket", access)

    yield begin
    for running in servers:
        running.shutdown()
        running.server_close()


def test_a_listing_without_tokens_is_followed_by_its_last_keys(lister: Callable[..., Bucket]) -> None:
    assert [found.key for found in lister().objects("")] == ["a", "b\udcff", "c"]


def test_a_listing_that_cannot_be_followed_does_not_pass_for_complete(lister: Callable[..., Bucket]) -> None:
    with pytest.raises(DatasetError, match="the same page again"):
        list(lister(follows_markers=False).objects(""))
    with pytest.raises(DatasetError, match="breaks off"):
        list(lister(keys=("",)).objects(""))


def test_a_listing_that_is_cut_off_on_the_way_is_asked_for_again(lister: Callable[..., Bucket]) -> None:
    assert len(list(lister(cut=1).objects(""))) == 3
    assert not lister(cut=1).reachable()
