"""One signed question to an object store: what obstore cannot ask, or not of every key."""

import hashlib
import hmac
import http.client
import random
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from pathlib import Path
from urllib.parse import quote, urlsplit

from flat_bug.datasets.s3_access import Access
from flat_bug.errors import ConfigError, MissingPartError

ATTEMPTS = 4
SECONDS_TO_ANSWER = 30.0
BUSY = (429, 500, 502, 503, 504)
"""Status of an answer that may be another one in a moment."""
LARGEST_ANSWER = 64 * 2**20
NOTHING = hashlib.sha256(b"").hexdigest()
ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    headers: Message
    body: bytes


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer: following it would send the signature to another server."""

    def redirect_request(self, *_: object) -> None:
        return None


class Asker:
    """Sends signed requests without a body, again when the server is busy or the connection breaks.

    Args:
        access: Who asks, and where.

    Raises:
        ConfigError: The file of certificates cannot be read.
    """

    def __init__(self, access: Access) -> None:
        self.access = access
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if access.endpoint.startswith("https://"):
            handlers.append(urllib.request.HTTPSHandler(context=_trusted(access.ca_bundle)))
        self._opener = urllib.request.build_opener(*handlers)

    def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        attempts: int = ATTEMPTS,
    ) -> Answer:
        """Return the server's answer, whatever its status.

        Args:
            method: ``GET`` or ``HEAD``.
            path: Bucket and key, not encoded.
            query: Names and values, not encoded.
            headers: Headers to add; they are signed.
            attempts: How often to try.

        Raises:
            MissingPartError: The server cannot be reached.
        """
        problem = ""
        for attempt in range(attempts):
            if attempt:
                # Many clients that wait equally long come back together.
                time.sleep(0.25 * 2**attempt * random.uniform(0.5, 1.0))  # noqa: S311 - no secret depends on it
            try:
                answer = self._once(method, path, query or {}, headers or {})
            except (OSError, http.client.HTTPException) as error:
                problem = _reason(error)
                if isinstance(getattr(error, "reason", error), ssl.SSLCertVerificationError):
                    break
                continue
            if answer.status not in BUSY or attempt == attempts - 1:
                return answer
        raise MissingPartError(
            f"the server cannot be reached: {self.access.hide(problem)}",
            where=self.access.endpoint,
            mend="Check --endpoint-url and the network; for a certificate of your own set AWS_CA_BUNDLE.",
        )

    def _once(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        url = self.access.endpoint + quote(path, safe="/~")
        if query:
            url += "?" + canonical_query(query)
        signed = sign(method, url, headers, self.access, datetime.now(UTC))
        request = urllib.request.Request(url, method=method, headers=signed)  # noqa: S310 - http(s), checked by Access
        try:
            with self._opener.open(request, timeout=SECONDS_TO_ANSWER) as response:
                return Answer(response.status, response.headers, _body(method, response))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, _body(method, error))


def _body(method: str, response: http.client.HTTPResponse | urllib.error.HTTPError) -> bytes:
    """Return an answer's body, whole: with a limit Python itself does not complain of one that was cut off."""
    body = response.read(LARGEST_ANSWER)
    length = response.headers.get("Content-Length", "")
    missing = min(int(length), LARGEST_ANSWER) - len(body) if length.isdecimal() and method != "HEAD" else 0
    if missing > 0:
        raise http.client.IncompleteRead(body, missing)
    return body


def canonical_query(query: Mapping[str, str]) -> str:
    """Return names and values in the order and encoding in which they are signed."""
    # A key that is not UTF-8 may be where the next page begins.
    pairs = ((name, quote(value, safe="~", errors="surrogateescape")) for name, value in sorted(query.items()))
    return "&".join(f"{quote(name, safe='~')}={value}" for name, value in pairs)


def sign(method: str, url: str, headers: Mapping[str, str], access: Access, now: datetime) -> dict[str, str]:
    """Return the headers with a signature of the fourth version, for a request without a body.

    Args:
        method: ``GET`` or ``HEAD``.
        url: Address, encoded, its query as `canonical_query` makes it.
        headers: Headers to sign too.
        access: Who asks; without credentials nothing is signed.
        now: Time of the request.
    """
    if access.credentials is None:
        return dict(headers)
    parts = urlsplit(url)
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    every = {"host": parts.netloc, "x-amz-content-sha256": NOTHING, "x-amz-date": stamp}
    every |= {name.lower(): value for name, value in headers.items()}
    if access.credentials.token:
        every["x-amz-security-token"] = access.credentials.token
    names = ";".join(sorted(every))
    lines = "".join(f"{name}:{every[name]}\n" for name in sorted(every))
    request = "\n".join([method, parts.path or "/", parts.query, lines, names, NOTHING])
    scope = f"{stamp[:8]}/{access.region}/s3/aws4_request"
    text = "\n".join([ALGORITHM, stamp, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = b"AWS4" + access.credentials.secret.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    credential = f"{access.credentials.key_id}/{scope}"
    every["authorization"] = f"{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
    return every


def _trusted(ca_bundle: Path | None) -> ssl.SSLContext:
    try:
        trusted = ssl.create_default_context()
        if ca_bundle is not None:
            trusted.load_verify_locations(ca_bundle)
    except OSError as error:
        raise ConfigError(
            f"the certificates cannot be read: {error.strerror or error}",
            where=str(ca_bundle),
            mend="AWS_CA_BUNDLE names a file of certificates.",
        ) from error
    return trusted


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({reason.verify_message})"
    if isinstance(reason, http.client.IncompleteRead):
        return "its answers break off"
    if isinstance(reason, TimeoutError):
        return "it does not answer in time"
    if isinstance(reason, OSError):
        return reason.strerror or str(reason)
    return str(reason) or type(reason).__name__
