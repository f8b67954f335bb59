"""A bucket of an object store: what is in it, what is known of an object, and its bytes.

Objects are fetched by obstore. It cannot list every bucket, since one key with ``..`` or an empty part makes its whole
listing fail and a leading ``/`` is lost; so listing, and asking for checksums, are requests of our own.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET

from flat_bug.datasets.s3_access import Access, Credentials
from flat_bug.datasets.s3_request import BUSY, SECONDS_TO_ANSWER, Answer, Asker
from flat_bug.errors import ConfigError, DatasetError, FlatBugError, MissingPartError, UsageError

if TYPE_CHECKING:
    from obstore.store import BackoffConfig, ClientConfig, S3Credential, S3CredentialProvider, S3Store

CHUNK = 4 * 2**20
RETRIES = 4
STAR = "*"


@dataclass(frozen=True)
class Source:
    """A place in a bucket.

    Attributes:
        bucket: Name of the bucket.
        prefix: What the keys start with: nothing, or a folder with its last slash, or the start of names.
    """

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, url: str) -> "Source":
        """Read ``s3://bucket/prefix``; ``/*`` at its end means the same, as other clients write it.

        Raises:
            UsageError: It is no such address.
        """
        match = re.fullmatch(r"s3a?://([A-Za-z0-9][A-Za-z0-9._-]*)(?:/(.*))?", url, re.DOTALL)
        if match is None:
            raise UsageError("the source is no address of a bucket", where=url, mend="Write it like s3://bucket/prefix")
        prefix = match[2] or ""
        wild = prefix.endswith(STAR)
        prefix = prefix.removesuffix(STAR)
        if STAR in prefix:
            raise UsageError("a * can only stand at the end of the source", where=url)
        if prefix and not wild:
            prefix = prefix.rstrip("/") + "/"
        return cls(match[1], prefix)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    @property
    def folder(self) -> str:
        """The part of the prefix that names of files do not repeat."""
        return self.prefix[: self.prefix.rfind("/") + 1]


@dataclass(frozen=True)
class RemoteObject:
    """An object as it is listed.

    Attributes:
        key: Its whole name.
        size: Bytes.
        etag: Its ETag without quotes: for most objects an MD5, or the MD5 of the MD5s of its parts.
        modified: When it was last written, in seconds since 1970.
    """

    key: str
    size: int
    etag: str
    modified: float


@dataclass(frozen=True)
class Facts:
    """What a server knows of an object beyond the listing.

    Attributes:
        sha256: SHA-256 of the object in base64, where it was uploaded with one.
        md5: MD5 of the object in base64, as rclone notes it for objects in parts.
        part_size: Bytes in the first of several parts.
        encrypted: Whether it is encrypted with a key of the customer's, so that its ETag is no digest.
    """

    sha256: str
    md5: str
    part_size: int | None
    encrypted: bool


class TransferError(DatasetError):
    """An object could not be read to its end; it may be when it is tried again."""


class Bucket:
    """A bucket that can be listed and read.

    Args:
        name: Name of the bucket.
        access: Who asks, and where.
    """

    def __init__(self, name: str, access: Access) -> None:
        self.name = name
        self.access = access
        self._asker = Asker(access)

    @cached_property
    def _store(self) -> "S3Store":
        return _open_store(self.name, self.access)

    def objects(self, prefix: str) -> Iterator[RemoteObject]:
        """Yield the objects whose keys start with ``prefix``, in the server's order.

        Raises:
            ConfigError: The credentials are not accepted.
            DatasetError: There is no such bucket, or the answer is no listing.
            MissingPartError: The server cannot be reached.
        """
        query = {"list-type": "2", "prefix": prefix, "encoding-type": "url"}
        following: dict[str, str] = {}
        while True:
            answer = self._asker.ask("GET", f"/{self.name}", query | following)
            if answer.status != 200:
                self._refuse(answer)
            objects, token, truncated = self._read_listing(answer.body)
            yield from objects
            if not truncated:
                return
            if not token and not objects:
                raise DatasetError("the server's listing of the bucket breaks off", where=self.access.endpoint)
            # Servers that know only the first form of listing give no token: the next page begins after the last key.
            after = {"continuation-token": token} if token else {"marker": objects[-1].key}
            if after == following:
                raise DatasetError("the server lists the same page again and again", where=self.access.endpoint)
            following = after

    def find(self, key: str) -> RemoteObject | None:
        """Return the object of exactly this name."""
        return next((found for found in self.objects(key) if found.key == key), None)

    def read(self, key: str) -> Iterator[bytes]:
        """Yield the bytes of an object, in pieces of some megabytes.

        Raises:
            TransferError: The connection broke, or the server is busy.
            ConfigError: The credentials are no longer accepted, whichever object is asked for.
            DatasetError: It cannot be read, however often it is tried.
        """
        import obstore  # noqa: PLC0415 - `fb --help` has no time for it
        from obstore.exceptions import BaseError  # noqa: PLC0415 - the same

        try:
            yield from obstore.get(self._store, key).stream(min_chunk_size=CHUNK)
        except FileNotFoundError:
            raise DatasetError("it is no longer in the bucket") from None
        except (BaseError, ValueError) as error:
            # The chain is cut: obstore repeats the server's answer, and a server may repeat a request with its token.
            raise _cannot_read(error, self.access) from None

    def facts(self, key: str, *, parts: bool) -> Facts:
        """Return what the server knows of an object beyond the listing.

        Args:
            key: Name of the object.
            parts: Whether it was uploaded in parts.

        Raises:
            TransferError: The server does not say what it knows.
        """
        path = f"/{self.name}/{key}"
        try:
            whole = self._asker.ask("HEAD", path, headers={"x-amz-checksum-mode": "ENABLED"})
            first = self._asker.ask("HEAD", path, {"partNumber": "1"}) if parts else None
        except MissingPartError:
            raise TransferError("the server does not say what digest it has") from None
        # No server has to know of part numbers; but one that is busy may know more than it says now.
        for answer in (whole, first):
            if answer and answer.status != 200 and (answer is whole or answer.status in BUSY):
                raise TransferError(f"the server does not say what digest it has ({answer.status})")
        encryption = whole.headers.get("x-amz-server-side-encryption", "")
        length = first.headers.get("Content-Length", "") if first and first.status in (200, 206) else ""
        return Facts(
            sha256=whole.headers.get("x-amz-checksum-sha256", ""),
            md5=whole.headers.get("x-amz-meta-md5chksum", ""),
            part_size=int(length) if length.isdecimal() and int(length) else None,
            encrypted=encryption.startswith("aws:kms")
            or "x-amz-server-side-encryption-customer-algorithm" in whole.headers,
        )

    def reachable(self) -> bool:
        """Return whether the server answers now, whatever it answers."""
        try:
            self._asker.ask("GET", f"/{self.name}", {"list-type": "2", "max-keys": "1"}, attempts=1)
        except MissingPartError:
            return False
        return True

    def _read_listing(self, body: bytes) -> tuple[list[RemoteObject], str, bool]:
        """Return the objects of a page, what the server calls the next one, and whether there is a next one."""
        broken = DatasetError("the server's answer is no listing of a bucket", where=self.access.endpoint)
        # Entities are how XML is made to blow up; no listing has them.
        if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
            raise broken
        try:
            tree = ET.fromstring(body)  # noqa: S314 - without a document type there are no entities
            encoded = _text(tree, "EncodingType") == "url"
            objects = [_object(entry, encoded=encoded) for entry in tree.iterfind("{*}Contents")]
        except (ET.ParseError, KeyError, ValueError) as error:
            raise broken from error
        if not tree.tag.endswith("ListBucketResult"):
            raise broken
        return objects, _text(tree, "NextContinuationToken"), _text(tree, "IsTruncated") == "true"

    def _refuse(self, answer: Answer) -> NoReturn:
        """Raise what a status other than success means for the whole bucket."""
        raise _error_of(self.name, answer, self.access)


def _text(element: ET.Element, name: str) -> str:
    return element.findtext(f"{{*}}{name}") or ""


def _object(entry: ET.Element, *, encoded: bool) -> RemoteObject:
    # Searching for each name takes four times as long, which a long listing shows.
    texts = {child.tag.rpartition("}")[2]: child.text or "" for child in entry}
    key = texts["Key"]
    return RemoteObject(
        # What is not UTF-8 stays visible as such, and is refused with the other unusable names.
        key=unquote_plus(key, errors="surrogateescape") if encoded else key,
        size=int(texts["Size"]),
        etag=texts.get("ETag", "").strip('"'),
        modified=datetime.fromisoformat(texts["LastModified"]).timestamp(),
    )


def _open_store(name: str, access: Access) -> "S3Store":
    from obstore.store import S3Store  # noqa: PLC0415 - `fb --help` has no time for it

    options: ClientConfig = {
        "allow_http": access.endpoint.startswith("http://"),
        # A large object may take hours; a connection on which nothing comes is given up sooner.
        "timeout": "1 day",
        "read_timeout": f"{SECONDS_TO_ANSWER:.0f} s",
        "connect_timeout": "10 s",
    }
    if access.ca_bundle is not None:
        options["root_certificate"] = access.ca_bundle.read_bytes()
    backoff: BackoffConfig = {
        "init_backoff": timedelta(milliseconds=200),
        "max_backoff": timedelta(seconds=5),
        "base": 2,
    }
    # obstore reads the variables of the environment too, by rules of its own: whatever could differ from what was
    # found is said here.
    return S3Store(
        name,
        endpoint=access.endpoint,
        aws_endpoint_url_s3=access.endpoint,
        region=access.region,
        virtual_hosted_style_request=False,
        skip_signature=access.credentials is None,
        client_options=options,
        retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(minutes=3), "backoff": backoff},
        credential_provider=_provider(access.credentials) if access.credentials else None,
    )


def _provider(credentials: Credentials) -> "S3CredentialProvider":
    def provide() -> "S3Credential":
        return {
            "access_key_id": credentials.key_id,
            "secret_access_key": credentials.secret,
            "token": credentials.token or None,
            "expires_at": None,
        }

    return provide


def _cannot_read(error: Exception, access: Access) -> FlatBugError:
    """Return what obstore's message says in a few words."""
    text = str(error)
    status = re.search(r"status code: (\d{3})", text)
    if status is not None:
        code = _code_of(text.encode())
        said = REASONS.get(code, "the server does not give it")
        if code in FOR_ALL:
            return ConfigError(f"{said} ({status[1]})", where=_asked_of(access), mend=FOR_ALL[code])
        again = status[1] in ("408", "429") or status[1].startswith("5")
        return (TransferError if again else DatasetError)(f"{said} ({status[1]})")
    if "Content-Range header" in text or "kind: Body" in text or "kind: Decode" in text:
        return TransferError("the connection broke before the last byte")
    if "HTTP error" in text:
        return TransferError("the connection to the server failed")
    return TransferError(access.hide(text.partition("\n")[0]))


REASONS = {
    "InvalidAccessKeyId": "the server does not know the access key",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key",
    "AccessDenied": "the credentials do not allow it",
    "ExpiredToken": "the session token has expired",
    "InvalidToken": "the session token is not valid",
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
}
_GO_ON = "run the same command again; what is complete is kept."
FOR_ALL = {
    "ExpiredToken": f"Get new credentials and {_GO_ON}",
    "InvalidToken": f"Get new credentials and {_GO_ON}",
    "RequestTimeTooSkewed": f"Set the clock and {_GO_ON}",
}
"""What is refused for one object is then refused for every other one too, and what to do about it."""


def _error_of(bucket: str, answer: Answer, access: Access) -> FlatBugError:
    code = _code_of(answer.body)
    where = _asked_of(access, f"/{bucket}")
    region = answer.headers.get("x-amz-bucket-region")
    if answer.status in (301, 307, 308) or (code == "AuthorizationHeaderMalformed" and region):
        mend = f"Give --region {region}" if region else "Give its --endpoint-url and --region."
        return UsageError(f"the bucket {bucket!r} is at another endpoint or in another region", where=where, mend=mend)
    if answer.status in (401, 403) or code in REASONS:
        reason = REASONS.get(code, "the credentials are not accepted")
        mend = FOR_ALL.get(code, "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or choose a --profile.")
        if access.credentials is None:
            reason, mend = "the bucket is not public", "Leave --anonymous out, and give credentials."
        return ConfigError(f"{reason} ({answer.status})", where=where, mend=mend)
    if answer.status == 404:
        return DatasetError(
            f"there is no bucket {bucket!r} (404)", where=access.endpoint, mend="Check the name and --endpoint-url."
        )
    said = f": {access.hide(code)}" if code else ""
    return MissingPartError(
        f"the server does not list the bucket {bucket!r} (status {answer.status}{said})", where=access.endpoint
    )


def _asked_of(access: Access, bucket: str = "") -> str:
    return access.endpoint + (f"{bucket}, with the credentials of {access.source}" if access.credentials else "")


def _code_of(body: bytes) -> str:
    """Return the code in the server's answer. Its message is not for people, and may repeat the request."""
    match = re.search(rb"<Code>(\w{1,64})</Code>", body)
    return match[1].decode() if match else ""
