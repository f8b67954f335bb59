"""A bucket becomes a folder and stays one: what is missing is fetched, what is right left, what is yours kept."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.s3_servers import KEY_ID, SECRET, Server, seaweedfs

from flat_bug.cli._support import run
from flat_bug.cli.main import build_app
from flat_bug.datasets.pull import Pulled, pull
from flat_bug.datasets.pull_keys import STATE_FOLDER
from flat_bug.datasets.s3 import Bucket, Source
from flat_bug.datasets.s3_access import Access, Credentials
from flat_bug.errors import ConfigError, DatasetError, FlatBugError, MissingPartError, OutputError, RunError, UsageError

OBJECTS = {
    "moths/instances_default.json": b"{}",
    "moths/a.jpg": b"a" * 5000,
    "moths/B b+é%41#.jpg": b"b" * 100_000,
    "cards/x.tif": b"",
}
Put = Callable[[dict[str, bytes]], str]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with seaweedfs() as running:
        yield running


@pytest.fixture
def access(server: Server) -> Access:
    # As the guide sets it: any word will do for a region.
    return Access(server.endpoint, "se-sto-1.linodeobjects.com", Credentials(KEY_ID, SECRET), "the test")


@pytest.fixture
def put(server: Server, request: pytest.FixtureRequest) -> Put:
    """Write objects below a prefix of the test's own, and return it."""
    prefix = f"{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}/pre-pro"

    def write(objects: dict[str, bytes]) -> str:
        server.put("bucket", {f"{prefix}/{key}": content for key, content in objects.items()})
        return f"s3://bucket/{prefix}"

    return write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "pre-pro"


def files_in(folder: Path) -> dict[str, bytes]:
    """Return the files that are not the state."""
    found = (path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in found}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith(STATE_FOLDER)}


def manifest_of(pulled: Pulled) -> dict[str, Any]:
    return json.loads(pulled.manifest.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def delete(server: Server, source: str, key: str) -> None:
    server.client.delete_object(Bucket="bucket", Key=f"{Source.parse(source).prefix}{key}")


def test_a_bucket_becomes_a_folder_with_a_manifest_of_digests(put: Put, folder: Path, access: Access) -> None:
    pulled = pull(put(OBJECTS) + "/*", folder, access)
    assert files_in(folder) == OBJECTS
    assert (pulled.fetched, pulled.failed, pulled.by_size) == (4, [], 0)
    entries = manifest_of(pulled)["files"]
    assert {name: entry["sha256"] for name, entry in entries.items()} == {
        name: hashlib.sha256(content).hexdigest() for name, content in OBJECTS.items()
    }
    assert {entry["checked"] for entry in entries.values()} == {"md5"}
    assert {path.name for path in (folder / STATE_FOLDER).iterdir()} == {"manifest.json", "lock"}


def test_a_second_pull_fetches_nothing_and_writes_nothing(put: Put, folder: Path, access: Access) -> None:
    source = put(OBJECTS)
    first = pull(source, folder, access)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    os.utime(folder / STATE_FOLDER)
    again = pull(source, folder, access)
    assert (again.fetched, again.plan.unchanged) == (0, 4)
    assert first.manifest.stat().st_mtime_ns == before[first.manifest]
    assert files_in(folder) == OBJECTS


def test_only_what_is_new_missing_or_changed_is_fetched(put: Put, folder: Path, access: Access) -> None:
    source = put(OBJECTS)
    pull(source, folder, access)
    (folder / "moths/a.jpg").unlink()
    put({"moths/instances_default.json": b"[]", "new/n.jpg": b"n"})
    pulled = pull(source, folder, access)
    assert (pulled.fetched, pulled.plan.unchanged, pulled.kept) == (3, 2, [])
    assert files_in(folder) == OBJECTS | {"moths/instances_default.json": b"[]", "new/n.jpg": b"n"}


@pytest.mark.parametrize("damaged", [b"a" * 4999, b"a" * 4999 + b"z", b"", b"a" * 5001])
def test_a_file_that_was_damaged_here_is_repaired_and_kept_aside(
    damaged: bytes, put: Put, folder: Path, access: Access
) -> None:
    source = put(OBJECTS)
    pull(source, folder, access)
    (folder / "moths/a.jpg").write_bytes(damaged)
    pulled = pull(source, folder, access)
    assert (pulled.fetched, pulled.repaired) == (1, 1)
    assert files_in(folder) == OBJECTS
    assert [path.read_bytes() for path in pulled.kept] == [damaged]


def test_damage_that_left_size_and_time_alone_is_found_when_verifying(put: Put, folder: Path, access: Access) -> None:
    source = put(OBJECTS)
    pull(source, folder, access)
    file = folder / "moths/a.jpg"
    time = file.stat().st_mtime_ns
    file.write_bytes(b"z" * 5000)
    os.utime(file, ns=(time, time))
    assert pull(source, folder, access).fetched == 0
    assert pull(source, folder, access, verify=True).repaired == 1
    assert files_in(folder) == OBJECTS
    assert pull(source, folder, access, verify=True).fetched == 0


def test_a_file_that_was_only_touched_is_not_fetched(put: Put, folder: Path, access: Access) -> None:
    source = put(OBJECTS)
    pull(source, folder, access)
    os.utime(folder / "moths/a.jpg")
    pulled = pull(source, folder, access)
    assert (pulled.fetched, pulled.compared) == (0, 1)
    assert pull(source, folder, access).compared == 0


def test_files_that_another_client_brought_are_taken_over(put: Put, folder: Path, access: Access) -> None:
    source = put(OBJECTS)
    pull(source, folder, access)
    shutil.rmtree(folder / STATE_FOLDER)
    (folder / "moths/a.jpg").write_bytes(b"a" * 2500)  # what a killed client leaves
    pulled = pull(source, folder, access)
    assert (pulled.fetched, pulled.compared) == (1, 3)
    assert files_in(folder) == OBJECTS


def test_what_the_user_changed_is_kept_aside_when_the_bucket_changes(put: Put, folder: Path, access: Access) -> None:
    source = put(OBJECTS)
    pull(source, folder, access)
    (folder / "moths/instances_default.json").write_text("mine")
    put({"moths/instances_default.json": b"theirs"})
    pulled = pull(source, folder, access)
    assert (folder / "moths/instances_default.json").read_bytes() == b"theirs"
    assert [path.read_text() for path in pulled.kept] == ["mine"]
    assert pulled.kept[0].parts[-2:] == ("moths", "instances_default.json")


def test_what_is_gone_from_the_bucket_stays_until_it_is_to_be_deleted(
    server: Server, put: Put, folder: Path, access: Access
) -> None:
    source = put(OBJECTS)
    pull(source, folder, access)
    (folder / "notes.txt").write_text("mine")
    (folder / "moths/B b+é%41#.jpg").write_bytes(b"changed here")
    for key in ("cards/x.tif", "moths/B b+é%41#.jpg"):
        delete(server, source, key)
    assert sorted(pull(source, folder, access).gone) == ["cards/x.tif", "moths/B b+é%41#.jpg"]
    assert (folder / "cards/x.tif").exists()

    pulled = pull(source, folder, access, delete=True)

    assert (pulled.removed, pulled.changed_here) == (["cards/x.tif"], ["moths/B b+é%41#.jpg"])
    assert not (folder / "cards").exists()
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "moths/B b+é%41#.jpg").read_bytes() == b"changed here"


def test_an_empty_listing_removes_nothing_unless_it_is_said_to_be_right(
    server: Server, put: Put, folder: Path, access: Access
) -> None:
    source = put({"a.jpg": b"a"})
    pull(source, folder, access)
    delete(server, source, "a.jpg")
    with pytest.raises(DatasetError, match="there is nothing"):
        pull(source, folder, access, delete=True)
    assert (folder / "a.jpg").exists()
    assert pull(source, folder, access, delete=True, allow_empty=True).removed == ["a.jpg"]
    assert not (folder / "a.jpg").exists()


def test_a_failed_listing_removes_nothing(put: Put, folder: Path, access: Access) -> None:
    source = put(OBJECTS)
    pull(source, folder, access)
    wrong = Access(access.endpoint, access.region, Credentials(KEY_ID, "wrong"), "the test")
    with pytest.raises(ConfigError):
        pull(source, folder, wrong, delete=True)
    assert files_in(folder) == OBJECTS


def test_a_manifest_that_names_a_file_outside_removes_nothing_there(
    put: Put, folder: Path, tmp_path: Path, access: Access
) -> None:
    source = put(OBJECTS)
    pulled = pull(source, folder, access)
    victim = tmp_path / "victim"
    victim.write_bytes(b"x")
    document = manifest_of(pulled)
    document["files"]["../victim"] = document["files"]["moths/a.jpg"]
    pulled.manifest.write_text(json.dumps(document))
    assert pull(source, folder, access, delete=True).removed == []
    assert victim.exists()


@pytest.mark.parametrize("broken", ["", "{", "[]", '{"format": 1}', '{"format": 9, "files": {}}'])
def test_a_broken_manifest_costs_reading_the_files_and_is_told(
    broken: str, put: Put, folder: Path, access: Access
) -> None:
    source = put(OBJECTS)
    pull(source, folder, access).manifest.write_text(broken)
    pulled = pull(source, folder, access)
    assert (pulled.fetched, pulled.compared) == (0, 4)
    assert "cannot be read" in pulled.note


def test_a_file_that_has_become_a_folder_in_the_bucket_gives_way_when_deleting(
    server: Server, put: Put, folder: Path, access: Access
) -> None:
    source = put({"a": b"file", "b": b"b"})
    pull(source, folder, access)
    delete(server, source, "a")
    put({"a/c": b"inside"})
    assert [failure.reason for failure in pull(source, folder, access).failed] == [
        f"{folder / 'a'} is a file, not a folder"
    ]
    assert pull(source, folder, access, delete=True).failed == []
    assert files_in(folder) == {"a/c": b"inside", "b": b"b"}


def test_a_link_in_the_folder_leads_nothing_outside(put: Put, folder: Path, tmp_path: Path, access: Access) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.jpg").write_bytes(b"outside")
    folder.mkdir()
    (folder / "moths").symlink_to(outside)
    (folder / "cards").mkdir()
    (folder / "cards" / "x.tif").symlink_to(outside / "a.jpg")
    pulled = pull(put(OBJECTS), folder, access)
    assert len(pulled.failed) == 3
    assert all("is a link" in failure.reason for failure in pulled.failed)
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"a.jpg": b"outside"}
    assert not (folder / "cards" / "x.tif").is_symlink()
    assert (folder / "cards" / "x.tif").read_bytes() == b""
    assert pulled.kept[0].is_symlink()


def test_a_state_behind_a_link_is_not_written(put: Put, folder: Path, tmp_path: Path, access: Access) -> None:
    (tmp_path / "outside").mkdir()
    folder.mkdir()
    (folder / STATE_FOLDER).symlink_to(tmp_path / "outside")
    with pytest.raises(OutputError, match="behind a link"):
        pull(put(OBJECTS), folder, access)
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_folder_or_pipe_in_the_place_of_a_file_is_a_failed_row(put: Put, folder: Path, access: Access) -> None:
    (folder / "moths" / "a.jpg").mkdir(parents=True)
    (folder / "cards").mkdir()
    os.mkfifo(folder / "cards" / "x.tif")
    pulled = pull(put(OBJECTS), folder, access)
    assert sorted(failure.reason.split("/")[-1] for failure in pulled.failed) == [
        "a.jpg is there and is no file",
        "x.tif is there and is no file",
    ]
    assert pulled.fetched == 2


def test_one_object_is_pulled_by_its_whole_name(put: Put, folder: Path, access: Access) -> None:
    pull(f"{put(OBJECTS)}/moths/a.jpg", folder, access)
    assert files_in(folder) == {"a.jpg": OBJECTS["moths/a.jpg"]}


def test_a_star_after_the_start_of_names_takes_all_that_start_so(put: Put, folder: Path, access: Access) -> None:
    pull(f"{put(OBJECTS)}/mo*", folder, access)
    assert set(files_in(folder)) == {name for name in OBJECTS if name.startswith("moths/")}


def test_a_prefix_does_not_take_its_neighbours(put: Put, folder: Path, access: Access) -> None:
    source = put({"a/1": b"1", "ab/2": b"2"})
    pull(f"{source}/a", folder, access)
    assert files_in(folder) == {"1": b"1"}


def test_more_objects_than_one_page_lists_are_all_pulled(put: Put, folder: Path, access: Access) -> None:
    objects = {f"{number}.jpg": str(number).encode() for number in range(1100)}
    assert pull(put(objects), folder, access).fetched == 1100
    assert files_in(folder) == objects


@pytest.mark.parametrize("part_size", [5 * 2**20, 6_000_000])
def test_an_object_in_parts_is_checked_by_the_digests_of_its_parts(
    part_size: int, server: Server, put: Put, folder: Path, access: Access
) -> None:
    source = put({"small": b"s"})
    content = os.urandom(13_000_000)
    server.put_in_parts("bucket", f"{Source.parse(source).prefix}large.zip", content, part_size)
    pulled = pull(source, folder, access)
    assert files_in(folder) == {"small": b"s", "large.zip": content}
    assert manifest_of(pulled)["files"]["large.zip"]["checked"] == "md5 of parts"
    shutil.rmtree(folder / STATE_FOLDER)
    assert pull(source, folder, access).compared == 2


@pytest.mark.parametrize("prefix", ["sp ace/", "plus+%2F/", "é~*'()!/", "a&b=c?#/"])
def test_signatures_of_odd_prefixes_and_keys_are_accepted(prefix: str, server: Server, access: Access) -> None:
    server.put("odd", {f"{prefix}x": b"x"})
    bucket = Bucket("odd", access)
    assert [found.key for found in bucket.objects(prefix)] == [f"{prefix}x"]
    assert b"".join(bucket.read(f"{prefix}x")) == b"x"
    bucket.facts(f"{prefix}x", parts=True)


def test_the_folder_may_be_a_link_itself(put: Put, tmp_path: Path, access: Access) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "scratch").symlink_to(tmp_path / "real")
    pull(put(OBJECTS), tmp_path / "scratch", access)
    assert files_in(tmp_path / "real") == OBJECTS


def test_a_folder_of_another_source_is_left_alone(put: Put, folder: Path, access: Access) -> None:
    source = put(OBJECTS)
    pull(source, folder, access)
    with pytest.raises(UsageError, match="was pulled from"):
        pull(f"{source}/moths", folder, access, delete=True)
    assert files_in(folder) == OBJECTS


def test_a_path_that_cannot_be_looked_at_is_a_failed_row(put: Put, tmp_path: Path, access: Access) -> None:
    # Root may look at everything, but even for root a path is too long at some point.
    folder = tmp_path.joinpath(*["f" * 200] * 16)
    key = "/".join(["k" * 190] * 5)
    pulled = pull(put({"a.jpg": b"a", key: b"far"}), folder, access)
    assert "cannot be looked at: File name too long" in pulled.failed[0].reason
    assert files_in(folder) == {"a.jpg": b"a"}


def test_a_folder_that_may_not_be_entered_is_a_failed_row_for_each_file(put: Put, folder: Path, access: Access) -> None:
    source = put(OBJECTS)
    pull(source, folder, access)
    (folder / "moths").chmod(0)
    try:
        if os.access(folder / "moths" / "a.jpg", os.F_OK):
            pytest.skip("whoever runs this may enter every folder")
        pulled = pull(source, folder, access)
    finally:
        (folder / "moths").chmod(0o755)
    assert len(pulled.failed) == 3
    assert all("cannot be looked at: Permission denied" in failure.reason for failure in pulled.failed)
    assert pulled.fetched == 0


def test_a_state_that_cannot_be_written_is_told(put: Put, folder: Path, access: Access) -> None:
    source = put(OBJECTS)
    pull(source, folder, access)
    (folder / STATE_FOLDER / "tmp").write_bytes(b"in the way of temporary files")
    with pytest.raises(OutputError, match="cannot write") as raised:
        pull(source, folder, access)
    assert raised.value.where == str(folder / STATE_FOLDER / "tmp")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"credentials": Credentials(KEY_ID, "wrong")}, ConfigError("the secret key does not belong")),
        ({"credentials": Credentials("AKIANOBODY", SECRET)}, ConfigError("the server does not know the access key")),
        ({"credentials": None}, ConfigError("the bucket is not public")),
        ({"endpoint": "http://127.0.0.1:1"}, MissingPartError("the server cannot be reached: Connection refused")),
        ({"endpoint": "http://nowhere.invalid"}, MissingPartError("the server cannot be reached")),
    ],
)
def test_what_is_wrong_is_said(
    change: dict[str, Any], error: FlatBugError, put: Put, folder: Path, access: Access
) -> None:
    with pytest.raises(type(error), match=error.what):
        pull(put(OBJECTS), folder, Access(**{**vars(access), **change}))
    assert not folder.exists()


def test_a_bucket_that_does_not_exist_is_said(folder: Path, access: Access) -> None:
    with pytest.raises(DatasetError, match="there is no bucket 'nobodys'"):
        pull("s3://nobodys/pre", folder, access)


def test_two_pulls_into_one_folder_do_not_meet(put: Put, folder: Path, access: Access) -> None:
    import fcntl

    source = put(OBJECTS)
    pull(source, folder, access)
    with (folder / STATE_FOLDER / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="is in use by"):
            pull(source, folder, access)


@pytest.fixture
def command(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Run ``fb data pull`` as the guide sets up its shell, and return exit code, output and errors."""
    values = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_PROFILE": "flat-bug", "HOME": tmp_path}
    for name, value in {**values, "AWS_REGION": "se-sto-1.linodeobjects.com"}.items():
        monkeypatch.setenv(name, str(value))
    # obstore reads these by rules of its own; the option comes first.
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")

    def call(*words: str) -> tuple[int, str, str]:
        all_words = ["data", "pull", *words, "--endpoint-url", server.endpoint]
        code = run(build_app(all_words), all_words)
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_the_guides_form_of_the_command_works(
    put: Put, folder: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    source = put(OBJECTS)
    code, out, _ = command(f"{source}/*", str(folder))
    assert code == 0
    assert out.startswith("Pulled: 4 files, 105.00 kB")
    assert f"Manifest: {folder / STATE_FOLDER / 'manifest.json'}" in out
    assert "4 unchanged" in command(source, str(folder))[1]


def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    server: Server, put: Put, folder: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    source = put(OBJECTS)
    assert "Would fetch 4 files" in command(source, str(folder), "--dry-run")[1]
    assert not folder.exists()
    command(source, str(folder))
    delete(server, source, "moths/a.jpg")
    put({"new.jpg": b"new"})
    os.utime(folder / "cards/x.tif")
    code, out, _ = command(source, str(folder), "--dry-run", "--delete", "--json")
    said = json.loads(out)
    assert code == 0
    assert said["fetch"] == [{"file": "new.jpg", "bytes": 3, "why": "new"}]
    assert [step["file"] for step in said["compare"]] == ["cards/x.tif"]
    assert (said["gone"], said["unchanged"]) == (["moths/a.jpg"], 2)
    assert set(files_in(folder)) == set(OBJECTS)


def test_the_result_is_one_object_for_machines(
    put: Put, folder: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, err = command(put(OBJECTS), str(folder), "--json")
    said = json.loads(out)
    assert (code, err) == (0, "")
    assert (said["fetched"], said["bytes"], said["failed"]) == (4, sum(map(len, OBJECTS.values())), [])


def test_kept_and_gone_files_are_told(
    server: Server, put: Put, folder: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    source = put(OBJECTS)
    command(source, str(folder))
    (folder / "moths/a.jpg").write_text("mine")
    delete(server, source, "cards/x.tif")
    _, out, err = command(source, str(folder))
    assert "of them 1 repaired" in out
    assert "kept aside" in err
    assert "1 file that was pulled is no longer in the bucket; --delete removes it" in err
