"""Whatever breaks while pulling: nothing half-written or wrong, what is complete kept, and no secret told."""

import hashlib
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import missing, needs
from tests.s3_servers import KEY_ID, SECRET, Change, Proxy, Server, seaweedfs

from flat_bug.cli._support import run
from flat_bug.cli.main import build_app
from flat_bug.datasets.pull import pull
from flat_bug.datasets.pull_keys import STATE_FOLDER
from flat_bug.datasets.s3 import Bucket
from flat_bug.datasets.s3_access import Access, Credentials
from flat_bug.datasets.s3_request import SECONDS_TO_ANSWER
from flat_bug.errors import ConfigError, MissingPartError, UsageError

FB = Path(sys.executable).with_name("fb")
TOKEN = "t0ken/of+a=session"  # noqa: S105 - of a server that lives for one test
LENGTH = re.compile(rb"Content-Length: 100000\b", re.IGNORECASE)
OBJECTS = {f"{number:02}.jpg": bytes([65 + number]) * 100_000 for number in range(20)}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with seaweedfs() as running:
        running.put("bucket", {f"pre/{key}": content for key, content in OBJECTS.items()})
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "pre"


def access_to(endpoint: str) -> Access:
    return Access(endpoint, "us-east-1", Credentials(KEY_ID, SECRET), "the test")


def files_in(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in found}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith(STATE_FOLDER)}


def flip(marker: bytes, times: int) -> Change:
    """Return what changes one byte of an answer with a marker, that many times."""
    left = threading.Semaphore(times)

    def change(data: bytes) -> bytes:
        if marker in data and left.acquire(blocking=False):
            return data.replace(marker, bytes([marker[0] ^ 1]) + marker[1:], 1)
        return data

    return change


def test_a_byte_that_flips_on_the_way_is_noticed_and_fetched_again(server: Server, folder: Path) -> None:
    with Proxy(server.endpoint, flip(b"A" * 50, times=1)) as proxy:
        pulled = pull("s3://bucket/pre", folder, access_to(proxy.endpoint))
    assert pulled.failed == []
    assert files_in(folder) == OBJECTS


def test_an_object_whose_bytes_are_never_right_is_refused_and_the_rest_is_pulled(server: Server, folder: Path) -> None:
    with Proxy(server.endpoint, flip(b"A" * 50, times=1000)) as proxy:
        pulled = pull("s3://bucket/pre", folder, access_to(proxy.endpoint))
    assert [failure.key for failure in pulled.failed] == ["pre/00.jpg"]
    assert "not those that the bucket has a digest of" in pulled.failed[0].reason
    assert files_in(folder) == {name: content for name, content in OBJECTS.items() if name != "00.jpg"}
    assert list((folder / STATE_FOLDER).glob("tmp/*")) == []


@pytest.mark.parametrize("part_size", [5 * 2**20, 6_000_000])
def test_a_flipped_byte_in_an_object_in_parts_is_refused(part_size: int, server: Server, folder: Path) -> None:
    server.put("parts", {})
    server.put_in_parts("parts", "pre/x", b"x" * 13_000_000, part_size)
    with Proxy(server.endpoint, flip(b"x" * 50, times=1000)) as proxy:
        pulled = pull("s3://parts/pre", folder, access_to(proxy.endpoint))
    assert [failure.key for failure in pulled.failed] == ["pre/x"]
    assert files_in(folder) == {}


def of_unknown_part_size(data: bytes) -> bytes:
    """Change an answer into that of a server which does not know of part numbers."""
    return data.replace(b"Content-Length: 6000000\r", b"Content-Length: 13000000\r")


@pytest.mark.parametrize("flips", [0, 1])
def test_an_object_in_parts_of_unknown_size_is_fetched_until_it_was_the_same_twice(
    flips: int, server: Server, folder: Path
) -> None:
    server.put("parts", {})
    server.put_in_parts("parts", "pre/x", b"x" * 13_000_000, 6_000_000)
    flipped = flip(b"x" * 50, times=flips)
    with Proxy(server.endpoint, lambda data: flipped(of_unknown_part_size(data))) as proxy:
        pulled = pull("s3://parts/pre", folder, access_to(proxy.endpoint))
    assert files_in(folder) == {"x": b"x" * 13_000_000}
    assert json.loads(pulled.manifest.read_text())["files"]["x"]["checked"] == "fetched twice"
    # A server that knows nothing else of it did have a digest.
    assert pulled.by_size == 0


def test_a_server_that_is_too_busy_to_say_its_digest_does_not_pass_for_one_without(
    server: Server, folder: Path
) -> None:
    server.put("parts", {})
    server.put_in_parts("parts", "pre/x", b"x" * 13_000_000, 6_000_000)
    left = threading.Semaphore(4)

    def busy(data: bytes) -> bytes:
        if b"Content-Length: 6000000\r" in data and left.acquire(blocking=False):
            return data.replace(b"HTTP/1.1 206 Partial Content", b"HTTP/1.1 503 Busy").replace(b"200 OK", b"503 Busy")
        return data

    with Proxy(server.endpoint, busy) as proxy:
        pulled = pull("s3://parts/pre", folder, access_to(proxy.endpoint))
    assert not left.acquire(blocking=False)
    assert json.loads(pulled.manifest.read_text())["files"]["x"]["checked"] == "md5 of parts"


@pytest.mark.parametrize(("damage", "repaired"), [(b"k" * 100_000, 0), (b"k" * 99_999 + b"z", 1)])
def test_verifying_does_not_trust_what_was_checked_by_its_size_only(
    damage: bytes, repaired: int, server: Server, folder: Path
) -> None:
    def opaque(data: bytes) -> bytes:
        return re.sub(rb"[0-9a-f]{32}(?=&#34;|&quot;|\")", b"f" * 31 + b"-", data)

    server.put("opaque", {"pre/k.jpg": b"k" * 100_000})
    with Proxy(server.endpoint, opaque) as proxy:
        pulled = pull("s3://opaque/pre", folder, access_to(proxy.endpoint))
        assert pulled.by_size == 1
        # As if it had been damaged on the way, with nothing to tell it by.
        document = json.loads(pulled.manifest.read_text())
        stamp = (folder / "k.jpg").stat().st_mtime_ns
        (folder / "k.jpg").write_bytes(damage)
        os.utime(folder / "k.jpg", ns=(stamp, stamp))
        document["files"]["k.jpg"]["sha256"] = hashlib.sha256(damage).hexdigest()
        pulled.manifest.write_text(json.dumps(document))
        assert pull("s3://opaque/pre", folder, access_to(proxy.endpoint)).fetched == 0
        again = pull("s3://opaque/pre", folder, access_to(proxy.endpoint), verify=True)
    assert (again.repaired, again.by_size) == (repaired, 0)
    assert files_in(folder) == {"k.jpg": b"k" * 100_000}
    assert json.loads(again.manifest.read_text())["files"]["k.jpg"]["checked"] == "fetched twice"


def test_a_body_that_is_shorter_than_it_should_be_is_refused(server: Server, folder: Path) -> None:
    def shorten(data: bytes) -> bytes:
        return LENGTH.sub(b"Content-Length: 099000", data) if b"JJJJ" in data else data

    with Proxy(server.endpoint, shorten) as proxy:
        pulled = pull("s3://bucket/pre", folder, access_to(proxy.endpoint), jobs=2)
    assert [failure.key for failure in pulled.failed] == ["pre/09.jpg"]
    assert "09.jpg" not in files_in(folder)


def test_a_connection_that_always_breaks_costs_its_object_only(server: Server, folder: Path) -> None:
    def cut(data: bytes) -> bytes:
        return b"" if data.endswith(b"KKKK") else data

    with Proxy(server.endpoint, cut) as proxy:
        pulled = pull("s3://bucket/pre", folder, access_to(proxy.endpoint), jobs=4)
    assert [failure.key for failure in pulled.failed] == ["pre/10.jpg"]
    assert not pulled.unreachable
    assert len(files_in(folder)) == 19


def test_a_server_that_dies_half_way_leaves_what_is_complete_and_the_next_run_goes_on(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with seaweedfs() as server:
        server.put("bucket", {f"pre/{key}": content for key, content in OBJECTS.items()})

        def die(data: bytes) -> bytes:
            # Answered in the order of their names when there is one at a time.
            if b"KKKK" in data:
                server.process.kill()
                return b""
            return data

        with Proxy(server.endpoint, die) as proxy:
            words = ["data", "pull", "s3://bucket/pre", str(folder), "--endpoint-url", proxy.endpoint, "-j", "1"]
            code = run(build_app(words), words)
    assert code == 3
    assert "the server no longer answers; 10 files are still missing" in capsys.readouterr().err
    assert files_in(folder) == {name: OBJECTS[name] for name in sorted(OBJECTS)[:10]}
    with seaweedfs() as server:
        server.put("bucket", {f"pre/{key}": content for key, content in OBJECTS.items()})
        assert pull("s3://bucket/pre", folder, access_to(server.endpoint)).fetched == 10
    assert files_in(folder) == OBJECTS


def pull_command(endpoint: str, folder: Path, *words: str) -> list[str]:
    return [str(FB), "data", "pull", "s3://bucket/pre", str(folder), "--endpoint-url", endpoint, *words]


def start(command: list[str]) -> subprocess.Popen[str]:
    keys = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}
    return subprocess.Popen(
        command, env={**os.environ, **keys}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_files(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while len(list(folder.glob("*.jpg"))) < count:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("after", [0, 1, 7, 15])
def test_after_kill_9_at_any_moment_the_next_run_fetches_only_what_is_missing(
    after: int, server: Server, folder: Path
) -> None:
    def slow(data: bytes) -> bytes:
        time.sleep(0.02)
        return data

    with Proxy(server.endpoint, slow) as proxy:
        process = start(pull_command(proxy.endpoint, folder, "-j", "3"))
        wait_for_files(folder, after, process)
        process.kill()
        process.communicate()
    complete = files_in(folder)
    assert all(content == OBJECTS[name] for name, content in complete.items())
    if complete:
        # What another source does not have is none of its business.
        server.put("other", {"x": b"x"})
        with pytest.raises(UsageError, match="was pulled from s3://bucket/pre/"):
            pull("s3://other", folder, access_to(server.endpoint), delete=True)
        assert files_in(folder) == complete
    (folder / STATE_FOLDER / "tmp").mkdir(parents=True, exist_ok=True)
    (folder / STATE_FOLDER / "tmp" / "left").write_bytes(b"half")
    pulled = pull("s3://bucket/pre", folder, access_to(server.endpoint))
    assert pulled.fetched == len(OBJECTS) - len(complete)
    assert files_in(folder) == OBJECTS
    assert not (folder / STATE_FOLDER / "tmp").exists()


def test_ctrl_c_ends_soon_and_keeps_what_is_complete(server: Server, folder: Path) -> None:
    def slow(data: bytes) -> bytes:
        time.sleep(0.02)
        return data

    with Proxy(server.endpoint, slow) as proxy:
        process = start(pull_command(proxy.endpoint, folder, "-j", "2"))
        wait_for_files(folder, 3, process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted" in err
    assert all(content == OBJECTS[name] for name, content in files_in(folder).items())


def test_a_line_of_the_journal_that_is_cut_costs_a_comparison_only(server: Server, folder: Path) -> None:
    pulled = pull("s3://bucket/pre", folder, access_to(server.endpoint))
    files = json.loads(pulled.manifest.read_text())["files"]
    pulled.manifest.unlink()
    lines = [json.dumps({"path": path, "entry": entry}) for path, entry in files.items()]
    (folder / STATE_FOLDER / "journal.jsonl").write_text("\n".join([*lines[:-1], lines[-1][:40]]))
    again = pull("s3://bucket/pre", folder, access_to(server.endpoint))
    assert (again.fetched, again.compared, again.plan.unchanged) == (0, 1, 19)


ON_A_DISK_OF_ITS_OWN = """
folder=$1 && mount -t tmpfs -o "size=$2" tmpfs "$folder" && shift 2 || exit 9
"$@"; code=$?
find "$folder" -name '*.jpg' -size -100000c
exit $code
"""
"""Runs a command with a small disk at a folder, and lists files on it that are not complete."""


def on_a_small_disk(folder: Path, size: str, command: list[str]) -> list[str]:
    return ["unshare", "-rm", "sh", "-c", ON_A_DISK_OF_ITS_OWN, "sh", str(folder), size, *command]


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    folder = tmp_path / "disk"
    folder.mkdir()
    probe = on_a_small_disk(folder, "1m", ["true"])
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        missing("the right to mount a file system in a name space of one's own")
    return folder


def test_too_little_space_is_said_before_anything_is_fetched(server: Server, small_disk: Path) -> None:
    process = start(on_a_small_disk(small_disk, "1m", pull_command(server.endpoint, small_disk)))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "not enough space: 2.0" in err
    assert ".jpg" not in out


def test_a_disk_that_fills_up_meanwhile_is_said_and_nothing_is_half_written(server: Server, small_disk: Path) -> None:
    process: subprocess.Popen[str] | None = None

    def fill(data: bytes) -> bytes:
        if b"KKKK" in data and process is not None:
            with suppress(OSError):  # full, as it should be
                Path(f"/proc/{process.pid}/root{small_disk}/filler").write_bytes(bytes(10_000_000))
        return data

    with Proxy(server.endpoint, fill) as proxy:
        process = start(on_a_small_disk(small_disk, "3m", pull_command(proxy.endpoint, small_disk, "-j", "1")))
        out, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "the disk is full" in err
    assert out == ""


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Return a certificate for 127.0.0.1 that nobody trusts, and a server's side of it."""
    needs("cryptography", "dev")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "certificate.pem"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = folder / "key.pem"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, private)
    return pem, context


def test_a_certificate_that_nobody_vouches_for_is_refused_unless_the_user_does(
    server: Server, folder: Path, tmp_path: Path
) -> None:
    pem, context = certificate(tmp_path)
    with Proxy(server.endpoint, context=context) as proxy:
        with pytest.raises(MissingPartError, match="its certificate is not trusted"):
            pull("s3://bucket/pre", folder, access_to(proxy.endpoint))
        trusting = Access(**{**vars(access_to(proxy.endpoint)), "ca_bundle": pem})
        assert pull("s3://bucket/pre", folder, trusting).fetched == len(OBJECTS)


class _Echo(BaseHTTPRequestHandler):
    """Repeats what it was asked in every error, as real servers do with signatures that they do not accept."""

    status = 403

    def do_GET(self) -> None:
        body = f"<Error><Code>SignatureDoesNotMatch</Code><Message>{self.headers}</Message></Error>".encode()
        body += f"{SECRET} {TOKEN}".encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def talkative(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], str]]:
    servers = []

    def begin(status: int) -> str:
        handler = type("Handler", (_Echo,), {"status": status})
        running = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=running.serve_forever, daemon=True).start()
        servers.append(running)
        return f"http://127.0.0.1:{running.server_port}"

    for name, value in {"ACCESS_KEY_ID": KEY_ID, "SECRET_ACCESS_KEY": SECRET, "SESSION_TOKEN": TOKEN}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    yield begin
    for running in servers:
        running.shutdown()
        running.server_close()


@pytest.mark.parametrize("status", [400, 403, 404, 418])
def test_no_secret_is_told_though_the_server_repeats_it(
    status: int, talkative: Callable[[int], str], folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["data", "pull", "s3://bucket/pre", str(folder), "--endpoint-url", talkative(status), "--debug"]
    assert run(build_app(words), words) in (2, 3)
    out, err = capfd.readouterr()
    assert "Traceback" in err
    assert not any(secret in out + err for secret in (SECRET, TOKEN, KEY_ID))


@pytest.mark.parametrize("status", [403, 418])
def test_no_secret_is_told_of_an_object_that_cannot_be_read(status: int, talkative: Callable[[int], str]) -> None:
    access = Access(talkative(status), "us-east-1", Credentials(KEY_ID, SECRET, TOKEN), "the test")
    with pytest.raises(Exception, match=str(status)) as raised:
        list(Bucket("bucket", access).read("pre/00.jpg"))
    shown = "".join(traceback.format_exception(raised.value))
    assert not any(secret in shown for secret in (SECRET, TOKEN, KEY_ID))


def test_no_secret_is_in_anything_that_is_written(server: Server, folder: Path) -> None:
    pull("s3://bucket/pre", folder, access_to(server.endpoint))
    state = b"".join(path.read_bytes() for path in (folder / STATE_FOLDER).rglob("*") if path.is_file())
    assert SECRET.encode() not in state
    assert KEY_ID.encode() not in state


def test_a_token_that_expires_half_way_ends_the_pull_and_keeps_what_is_complete(server: Server, folder: Path) -> None:
    refusal = b"<Error><Code>ExpiredToken</Code></Error>"
    answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%s" % (len(refusal), refusal)
    refused = threading.Semaphore(20)

    def expire(data: bytes) -> bytes:
        if re.search(rb"[K-T]{4}", data[-4:]) is None:
            return data
        return answer if data.startswith(b"HTTP") and refused.acquire(blocking=False) else b""

    with Proxy(server.endpoint, expire) as proxy, pytest.raises(ConfigError, match="token has expired") as raised:
        pull("s3://bucket/pre", folder, access_to(proxy.endpoint), jobs=1)
    assert "what is complete is kept" in raised.value.mend
    assert sorted(files_in(folder)) == sorted(OBJECTS)[:10]
    # Those that follow are not asked for.
    assert all(refused.acquire(blocking=False) for _ in range(19))
    assert pull("s3://bucket/pre", folder, access_to(server.endpoint)).fetched == 10


def test_of_very_many_failed_rows_some_are_printed(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    server.put("bad", {f"pre/{STATE_FOLDER}/{number}": b"x" for number in range(33)})
    words = ["data", "pull", "s3://bad/pre", str(folder), "--endpoint-url", server.endpoint]
    assert run(build_app(words), words) == 1
    rows = capsys.readouterr().err.splitlines()
    assert len(rows) == 21
    assert rows[-1] == "fb: and 13 more files; --json names them all"


def test_ctrl_c_does_not_wait_for_connections_on_which_nothing_comes(server: Server, folder: Path) -> None:
    ended, silent = threading.Event(), threading.Event()

    def stall(data: bytes) -> bytes:
        if b"KKKK" in data:
            silent.set()
            ended.wait()
        return data

    with Proxy(server.endpoint, stall) as proxy:
        process = start(pull_command(proxy.endpoint, folder, "-j", "1"))
        assert silent.wait(60)
        process.send_signal(signal.SIGINT)
        # The connection would be given up later only.
        _, err = process.communicate(timeout=SECONDS_TO_ANSWER - 10)
        ended.set()
    assert process.returncode == 130
    assert "Waiting for connections on which nothing comes" in err
    assert len(files_in(folder)) == 10
    assert pull("s3://bucket/pre", folder, access_to(server.endpoint)).fetched == 10
