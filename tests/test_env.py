"""Building and checking an environment: wheels for the node, locked, and proved to close."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distribution
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.tags import Tag
from tests.environments import (
    HERE,
    PROFILE,
    TARGET,
    describe,
    flip_a_byte,
    run_script,
    write_flat_bug,
    write_installers,
    write_wheel,
)

import flat_bug
from flat_bug.cli._support import run
from flat_bug.cli.main import build_app
from flat_bug.cluster.environment import build as building
from flat_bug.cluster.environment import fetch
from flat_bug.cluster.environment.build import BuiltEnvironment, build_environment
from flat_bug.cluster.environment.check import check_environment
from flat_bug.cluster.environment.lock import lock_text, read_lock
from flat_bug.cluster.environment.manifest import LOCK_NAME, MANIFEST_NAME, WheelEntry, read_manifest
from flat_bug.cluster.environment.own_wheel import build_own_wheel, changed_since, wheel_of_installed
from flat_bug.cluster.environment.packed import SQUASHFS_NAME, TAR_NAME
from flat_bug.cluster.environment.target import Target
from flat_bug.cluster.profile import ClusterProfile
from flat_bug.errors import ConfigError, FlatBugError, MissingPartError, RunError, UsageError
from flat_bug.files import sha256_of
from flat_bug.locks import hold

OTHER = "3.12" if HERE != "3.12" else "3.13"


@pytest.fixture(scope="module")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dist = tmp_path_factory.mktemp("built") / "dist"
    write_flat_bug(dist)
    write_wheel(dist, "legs")
    write_wheel(dist, "wings")
    write_installers(dist)
    describe(dist, extras=["train"])
    return dist


@pytest.fixture
def dist(built_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built_once, tmp_path / "dist"))


# What wheels are chosen for


@given(st.integers(17, 60), st.integers(5, 60))
def test_a_wheel_runs_where_the_c_library_is_as_new_as_it_asks_for(node: int, wheel: int) -> None:
    target = Target("3.11", "x86_64", f"2.{node}")
    tag = Tag("cp311", "cp311", f"manylinux_2_{wheel}_x86_64")
    assert (target.rank(frozenset([tag])) is not None) == (wheel <= node)
    # uv may know only an older platform than the nodes', never a newer one.
    assert int(target.uv_platform.rpartition("_")[2]) <= node


@pytest.mark.parametrize(
    ("tag", "runs"),
    [
        ("py3-none-any", True),
        ("cp311-cp311-linux_x86_64", True),
        ("cp38-abi3-manylinux2014_x86_64", True),
        ("cp312-cp312-manylinux2014_x86_64", False),
        ("cp312-abi3-manylinux2014_x86_64", False),
        ("cp311-cp311-manylinux2014_aarch64", False),
        ("cp311-cp311-musllinux_1_2_x86_64", False),
        ("cp311-cp311-win_amd64", False),
        ("py2-none-any", False),
    ],
)
def test_wheels_for_other_machines_are_not_chosen(tag: str, runs: bool) -> None:
    target = Target("3.11", "x86_64", "2.28")
    assert (target.rank(frozenset([Tag(*tag.split("-"))])) is not None) == runs


@pytest.mark.parametrize("change", [{"machine": "ppc64le"}, {"glibc": "2.12"}])
def test_nodes_for_which_there_are_no_wheels_are_refused(change: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="there are no wheels for"):
        Target.of(PROFILE.model_copy(update=change))


# The lock


WHEEL_ENTRIES = st.builds(
    WheelEntry,
    name=st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True),
    version=st.from_regex(r"[0-9]\.[0-9](\+[a-z]{1,5})?", fullmatch=True),
    file=st.just("a-1-py3-none-any.whl"),
    sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    bytes=st.just(1),
    folder=st.sampled_from([None, "/cvmfs/wheels"]),
)


@given(st.lists(WHEEL_ENTRIES, unique_by=lambda entry: entry.name))
def test_a_lock_is_read_back_as_it_was_written(tmp_path_factory: Any, entries: list[WheelEntry]) -> None:
    path = tmp_path_factory.mktemp("lock") / LOCK_NAME
    path.write_text(lock_text(entries, TARGET))
    assert read_lock(path) == {entry.name: (entry.version, entry.sha256) for entry in entries}


def test_the_lock_says_where_a_provided_wheel_lies() -> None:
    entry = WheelEntry(name="a", version="1", file="a-1.whl", sha256="0" * 64, bytes=1, folder="/cvmfs/wheels")
    text = lock_text([entry], TARGET)
    assert "--find-links /cvmfs/wheels\n" in text
    assert "# provided: /cvmfs/wheels/a-1.whl\n" in text


# The wheel of flat-bug itself


def test_an_installed_distribution_becomes_the_same_wheel_every_time(tmp_path: Path) -> None:
    wheels = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        wheels.append(wheel_of_installed(distribution("packaging"), tmp_path / name))
    assert wheels[0].read_bytes() == wheels[1].read_bytes()
    target = tmp_path / "installed"
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "-q", "-t", str(target)]
    subprocess.run([*command, str(wheels[0])], check=True)
    code = "import packaging.version as v; print(v.__file__, v.Version('1.0'))"
    said = subprocess.check_output([sys.executable, "-c", code], text=True, env={"PYTHONPATH": str(target)})
    assert said.split() == [str(target / "packaging" / "version.py"), "1.0"]


@pytest.mark.slow
def test_the_own_wheel_is_what_runs_and_a_changed_module_is_noticed(tmp_path: Path) -> None:
    wheel = build_own_wheel(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        assert "flat_bug/cluster/node_environment.py" in archive.namelist()
    changed = tmp_path / "changed.whl"
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            target.writestr(name, b"other" if name == "flat_bug/errors.py" else source.read(name))
    assert "errors.py" in changed_since(changed)


# Checking


def test_a_whole_environment_is_good(dist: Path) -> None:
    checked = check_environment(dist, PROFILE, ["train"])
    assert checked.problems == ()
    assert checked.is_good


def _flip_a_wheel(dist: Path) -> None:
    flip_a_byte(next(dist.glob("legs-*")))


def _cut_a_wheel(dist: Path) -> None:
    os.truncate(next(dist.glob("legs-*")), 10)


def _remove_a_wheel(dist: Path) -> None:
    next(dist.glob("legs-*")).unlink()


def _flip_the_image(dist: Path) -> None:
    flip_a_byte(dist / SQUASHFS_NAME)


def _remove_the_tar(dist: Path) -> None:
    (dist / TAR_NAME).unlink()


def _edit_the_lock(dist: Path) -> None:
    (dist / LOCK_NAME).write_text((dist / LOCK_NAME).read_text().replace("legs==1.0", "legs==2.0"))


def _remove_the_manifest(dist: Path) -> None:
    (dist / MANIFEST_NAME).unlink()


def _break_the_manifest(dist: Path) -> None:
    (dist / MANIFEST_NAME).write_text('{"wheels": []}')


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (_flip_a_wheel, "damaged: {dist}/legs-1.0-py3-none-any.whl has another content"),
        (_cut_a_wheel, "damaged: {dist}/legs-1.0-py3-none-any.whl has 10 bytes"),
        (_remove_a_wheel, "missing: {dist}/legs-1.0-py3-none-any.whl"),
        (_flip_the_image, "damaged: {dist}/environment.squashfs"),
        (_remove_the_tar, "missing: {dist}/environment.tar"),
        (_edit_the_lock, "damaged: {dist}/requirements.lock"),
        (_remove_the_manifest, "there is no environment"),
        (_break_the_manifest, "the manifest of the environment is damaged"),
    ],
)
def test_each_damage_is_named_with_the_command_that_mends_it(
    damage: Callable[[Path], None], problem: str, dist: Path
) -> None:
    damage(dist)
    checked = check_environment(dist, PROFILE)
    assert len(checked.problems) == 1
    assert checked.problems[0].startswith(problem.format(dist=dist))
    assert checked.error().mend.startswith(f"Run: fb env build -o {dist}")
    assert checked.problems[0] in str(checked.error())


def test_an_extra_that_was_not_built_is_named(dist: Path) -> None:
    checked = check_environment(dist, PROFILE, ["openvino"])
    assert checked.problems == ("built without the extra openvino, which the tasks need",)
    assert "--extra openvino --extra train" in checked.mend


def test_a_wheelhouse_with_a_gap_does_not_close_and_the_reason_names_it(tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    write_flat_bug(dist, requires=["legs>=2"])
    write_wheel(dist, "legs", "1.0")
    write_installers(dist)
    describe(dist, extras=["train"], packed=False)
    (problem,) = check_environment(dist, PROFILE).problems
    assert problem.startswith("it does not close")
    assert "legs>=2" in problem
    (problem,) = check_environment(dist, PROFILE, ["train"]).problems
    assert problem.startswith("it does not close")


def test_the_gap_of_an_extra_matters_only_to_tasks_that_need_it(tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    write_flat_bug(dist)
    write_wheel(dist, "legs")
    write_installers(dist)
    describe(dist, extras=["train"], packed=False)
    assert check_environment(dist, PROFILE).is_good
    (problem,) = check_environment(dist, PROFILE, ["train"]).problems
    assert "wings" in problem


def test_no_index_of_the_user_closes_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dist, index = tmp_path / "dist", tmp_path / "index"
    write_flat_bug(dist, requires=["legs>=2"])
    write_wheel(dist, "legs", "1.0")
    describe(dist, packed=False)
    write_wheel(index, "legs", "2.0")
    monkeypatch.setenv("UV_FIND_LINKS", str(index))
    assert not check_environment(dist, PROFILE).is_good


def test_a_wheel_that_nobody_asked_for_is_noted_and_harmless(dist: Path) -> None:
    write_wheel(dist, "legs", "9.0")
    checked = check_environment(dist, PROFILE)
    assert checked.is_good
    assert any("legs-9.0-py3-none-any.whl" in note for note in checked.notes)


def test_an_environment_for_other_nodes_is_refused(dist: Path) -> None:
    checked = check_environment(dist, PROFILE.model_copy(update={"python_version": OTHER}))
    assert f"the profile here says Python {OTHER}" in checked.problems[0]
    newer = PROFILE.model_copy(update={"glibc": "2.40"})
    assert check_environment(dist, newer).is_good
    assert not check_environment(dist, PROFILE.model_copy(update={"glibc": "2.17"})).is_good


def test_a_wheel_that_the_nodes_cannot_use_is_named(tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    write_flat_bug(dist)
    write_wheel(dist, "legs", tag="cp27-cp27m-win_amd64")
    describe(dist, packed=False)
    (problem,) = check_environment(dist, PROFILE).problems
    assert problem.startswith("incompatible with")
    assert "legs-1.0-cp27-cp27m-win_amd64.whl" in problem


def test_another_version_than_submits_is_refused(tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    write_flat_bug(dist, version="0.1")
    write_wheel(dist, "legs")
    describe(dist, packed=False)
    manifest = read_manifest(dist)
    manifest.model_copy(update={"version": "0.1"}).write(dist)
    (problem,) = check_environment(dist, PROFILE).problems
    assert problem == f"it holds flat-bug 0.1, and {flat_bug.__version__} submits"


@pytest.mark.parametrize("name", ["../precious", "/etc/passwd", "..", ".", ""])
def test_a_manifest_cannot_name_a_file_outside_its_folder(name: str, dist: Path) -> None:
    manifest = json.loads((dist / MANIFEST_NAME).read_text())
    manifest["wheels"][0]["file"] = name
    (dist / MANIFEST_NAME).write_text(json.dumps(manifest))
    with pytest.raises(MissingPartError, match="damaged"):
        read_manifest(dist)


# Building


class Index(ThreadingHTTPServer):
    """A package index on this machine: a folder of wheels, read anew for each request."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), IndexRequest)
        self.folder = folder
        self.sent: list[str] = []
        self.broken: set[str] = set()
        self.altered: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/simple"


class IndexRequest(BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        kind, name = unquote(self.path).strip("/").split("/")
        folder = self.server.folder
        if kind == "simple":
            wheels = sorted(folder.glob(f"{name.replace('-', '_')}-*.whl"))
            self._answer(200 if wheels else 404, "\n".join(map(self._link, wheels)).encode(), "text/html")
        elif name.endswith(".metadata"):
            self._answer(200, self._metadata(folder / name.removesuffix(".metadata")), "text/plain")
        elif name in self.server.broken:
            self._answer(500, b"", "text/plain")
        else:
            content = (folder / name).read_bytes()
            self.server.sent.append(name)
            self._answer(200, content[::-1] if name in self.server.altered else content, "application/octet-stream")

    def _link(self, wheel: Path) -> str:
        digest = sha256(self._metadata(wheel)).hexdigest()
        address = f"/files/{quote(wheel.name)}#sha256={sha256_of(wheel)}"
        return f'<a href="{address}" data-core-metadata="sha256={digest}">{wheel.name}</a>'

    def _metadata(self, wheel: Path) -> bytes:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA")))

    def _answer(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


class Site:
    """A login node: an index that it can reach, and a flat-bug that needs legs."""

    def __init__(self, folder: Path, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
        self.index = index
        self.dist = folder / "dist"
        self.requires: list[str] = ["legs"]
        # Only its name matters to most tests.
        write_wheel(index.folder, "pip", "99.0")
        write_wheel(index.folder, "legs")
        write_wheel(index.folder, "wings")
        monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
        # uv believes for ten minutes what an index has said.
        monkeypatch.setenv("UV_NO_CACHE", "1")
        # Packing is the slowest part, and most tests are about others.
        self.find_interpreter = building.find_interpreter
        monkeypatch.setattr(
            building, "find_interpreter", lambda target: self.find_interpreter(target) if self.packs else None
        )
        self.packs = False
        # The one part that is replaced: the real flat-bug needs hundreds of megabytes, see the slow test.
        monkeypatch.setattr(building, "build_own_wheel", lambda place: write_flat_bug(place, requires=self.requires))

    def build(self, profile: ClusterProfile = PROFILE, **options: Any) -> BuiltEnvironment:
        return build_environment(profile, self.dist, **options)

    def wheels(self) -> set[str]:
        return {"-".join(path.name.split("-")[:2]) for path in self.dist.glob("*.whl")}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    index = Index(tmp_path / "index")
    thread = Thread(target=index.serve_forever)
    thread.start()
    yield Site(tmp_path, index, monkeypatch)
    index.shutdown()
    thread.join()
    index.server_close()


def test_a_build_leaves_a_wheelhouse_that_closes_and_runs(site: Site, tmp_path: Path) -> None:
    site.packs = True
    built = site.build(extras=["train"])
    assert site.wheels() >= {"legs-1.0", "wings-1.0", f"flat_bug-{flat_bug.__version__}"}
    assert set(built.manifest.packed) == {"squashfs", "tar"}
    assert check_environment(site.dist, PROFILE, ["train"]).is_good
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"dist": str(site.dist), "python": "", "method": "tar", "persistent": False}))
    done = run_script(settings, tmp_path / "node")
    assert done.returncode == 0, done.stderr
    subprocess.run([done.stdout.strip(), "-c", "import flat_bug, wings"], check=True, cwd="/")


def test_a_second_build_downloads_and_packs_nothing(site: Site) -> None:
    site.packs = True
    first = site.build()
    inodes = {path.name: path.stat().st_ino for path in site.dist.glob("environment.[st]*")}
    second = site.build()
    assert first.downloaded
    assert second.downloaded == ()
    assert second.manifest == first.manifest
    assert inodes == {path.name: path.stat().st_ino for path in site.dist.glob("environment.[st]*")}


def test_without_a_change_no_index_is_needed(site: Site) -> None:
    site.build()
    shutil.rmtree(site.index.folder)
    assert site.build().downloaded == ()


def test_a_build_that_broke_off_goes_on_where_it_was(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "BATCH", 1)
    monkeypatch.setenv("PIP_RETRIES", "0")
    site.index.broken = {"pip-99.0-py3-none-any.whl"}
    with pytest.raises(MissingPartError, match="cannot be downloaded"):
        site.build()
    assert site.wheels() == {"legs-1.0"}
    assert not list(site.dist.glob(".tmp-*"))
    site.index.broken = set()
    site.index.sent.clear()
    site.build()
    assert site.index.sent == ["pip-99.0-py3-none-any.whl"]
    assert check_environment(site.dist, PROFILE).is_good


def test_a_wheel_that_is_not_what_the_index_describes_is_refused(site: Site) -> None:
    site.index.altered = {"legs-1.0-py3-none-any.whl"}
    with pytest.raises(MissingPartError):
        site.build()
    assert "legs-1.0" not in site.wheels()
    assert not (site.dist / MANIFEST_NAME).exists()


def test_two_builds_in_one_folder_do_not_mix(site: Site) -> None:
    site.dist.mkdir()
    with hold(site.dist / ".lock", "the wheelhouse"), pytest.raises(RunError, match="the wheelhouse is in use"):
        site.build()


def test_without_an_interpreter_of_the_nodes_nothing_is_packed_and_a_note_says_so(site: Site) -> None:
    site.packs = True
    site.build()
    site.packs = False
    site.requires = ["legs", "wings"]
    built = site.build()
    assert built.manifest.packed == {}
    assert any("load the module" in note for note in built.notes)
    # What was packed before holds something else.
    assert not list(site.dist.glob("environment.[st]*"))


def test_versions_stay_until_an_upgrade_is_asked_for_and_stale_wheels_go(site: Site) -> None:
    site.build()
    write_wheel(site.index.folder, "legs", "2.0")
    site.requires = ["legs", "wings"]
    site.build()
    assert site.wheels() >= {"legs-1.0", "wings-1.0"}
    upgraded = site.build(upgrade=True)
    assert "legs-2.0" in site.wheels()
    assert upgraded.pruned == ("legs-1.0-py3-none-any.whl",)
    assert "legs-1.0" not in site.wheels()


def test_what_a_user_put_into_the_folder_stays(site: Site) -> None:
    site.dist.mkdir()
    (site.dist / "notes.txt").write_text("mine")
    write_wheel(site.dist, "mine")
    site.build()
    site.build(upgrade=True)
    assert (site.dist / "notes.txt").read_text() == "mine"
    assert "mine-1.0" in site.wheels()


@pytest.mark.parametrize(
    "damage",
    [
        _flip_a_wheel,
        _cut_a_wheel,
        _remove_a_wheel,
        _flip_the_image,
        _remove_the_tar,
        _edit_the_lock,
        _break_the_manifest,
    ],
)
def test_building_again_mends_what_the_check_names(damage: Callable[[Path], None], site: Site) -> None:
    site.packs = True
    site.build()
    damage(site.dist)
    assert not check_environment(site.dist, PROFILE).is_good
    site.build()
    assert check_environment(site.dist, PROFILE).is_good


def test_wheels_that_the_cluster_provides_are_used_where_they_lie(site: Site, tmp_path: Path) -> None:
    provided = tmp_path / "cvmfs"
    # Older than the newest, as a cluster's are; the site marks its own builds.
    write_wheel(
        provided,
        "legs",
        "0.9+cluster",
        tag=f"cp{HERE.replace('.', '')}-cp{HERE.replace('.', '')}-linux_{os.uname().machine}",
    )
    write_wheel(provided, "wings", "5.0", tag="cp27-cp27m-linux_x86_64")
    profile = PROFILE.model_copy(update={"provided_wheels": (str(provided), "/nowhere/at/all")})
    site.packs = True
    (site.index.folder / "pip-99.0-py3-none-any.whl").unlink()
    wheel_of_installed(distribution("pip"), site.index.folder)
    built = site.build(profile, extras=["train"])
    (legs,) = (wheel for wheel in built.manifest.wheels if wheel.name == "legs")
    assert (legs.version, legs.folder) == ("0.9+cluster", str(provided))
    assert "legs-1.0" not in site.wheels()
    assert "wings-1.0" in site.wheels()
    assert any("/nowhere/at/all is not here" in note for note in built.notes)
    assert check_environment(site.dist, profile, ["train"]).is_good
    for method in ("pip", "tar"):
        settings = tmp_path / "settings.json"
        settings.write_text(json.dumps({"dist": str(site.dist), "python": "", "method": method, "persistent": False}))
        done = run_script(settings, tmp_path / f"node-{method}")
        assert done.returncode == 0, done.stderr
    next(provided.glob("legs-*")).unlink()
    assert check_environment(site.dist, profile).problems[0].startswith(f"missing: {provided}/legs-0.9")


def test_a_provided_version_that_does_not_fit_is_passed_over(site: Site, tmp_path: Path) -> None:
    write_wheel(tmp_path / "cvmfs", "legs", "0.5")
    site.requires = ["legs>=1"]
    built = site.build(PROFILE.model_copy(update={"provided_wheels": (str(tmp_path / "cvmfs"),)}))
    assert not any(wheel.folder for wheel in built.manifest.wheels)


def test_the_wheels_of_other_nodes_are_built_without_their_python(site: Site) -> None:
    write_wheel(
        site.index.folder,
        "legs",
        "1.5",
        tag=f"cp{OTHER.replace('.', '')}-cp{OTHER.replace('.', '')}-manylinux_2_28_aarch64",
    )
    profile = ClusterProfile(name="other", python_version=OTHER, machine="aarch64", glibc="2.28")
    site.requires = ["legs>=1.5"]
    built = site.build(profile)
    assert "legs-1.5" in site.wheels()
    assert check_environment(site.dist, profile).is_good
    assert built.manifest.target == Target(OTHER, "aarch64", "2.28")


def test_what_cannot_be_resolved_ends_with_the_reason_and_leaves_what_was_there(site: Site) -> None:
    site.build()
    before = (site.dist / MANIFEST_NAME).read_bytes()
    site.requires = ["antennae"]
    with pytest.raises(MissingPartError, match="cannot be resolved") as raised:
        site.build()
    assert "antennae" in raised.value.where
    assert (site.dist / MANIFEST_NAME).read_bytes() == before
    assert check_environment(site.dist, PROFILE).is_good
    assert not list(site.dist.glob(".tmp-*"))


@pytest.mark.parametrize(
    "package",
    [
        "-r /etc/passwd",
        "--index-url=http://127.0.0.1",
        "legs\n-r x",
        "legs @ http://127.0.0.1/x",
        "",
        "$(touch pwned)",
        "a;b",
    ],
)
def test_a_package_that_is_none_is_refused_before_anything_runs(package: str, site: Site) -> None:
    with pytest.raises(UsageError):
        site.build(packages=[package])
    assert not site.dist.exists()


@given(st.text())
def test_whatever_is_asked_for_is_one_line_that_starts_with_a_name_or_refused(package: str) -> None:
    try:
        line = building._requirement(package)
    except UsageError:
        return
    assert len(line.splitlines()) == 1
    assert line[0].isalnum()
    assert line.isascii() or ";" in line


def test_another_package_is_locked_and_checked_too(site: Site) -> None:
    write_wheel(site.index.folder, "antennae", "3.0")
    built = site.build(packages=["antennae>=2"])
    assert "antennae-3.0" in site.wheels()
    assert built.manifest.packages == ("antennae>=2",)
    assert "--with 'antennae>=2'" in check_environment(site.dist, PROFILE, ["openvino"]).mend


def test_an_extra_that_does_not_exist_is_refused_with_those_that_do(site: Site) -> None:
    with pytest.raises(UsageError, match="no extra 'fly'") as raised:
        site.build(extras=["fly"])
    assert "train" in raised.value.mend


def test_a_folder_that_cannot_be_written_is_an_error_of_output(site: Site, tmp_path: Path) -> None:
    site.dist.write_text("a file")
    with pytest.raises(FlatBugError, match="cannot write"):
        site.build()


# The commands


def fb(*words: str) -> int:
    return run(build_app(words), list(words))


def test_the_commands_print_what_was_built_and_what_was_found(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = tmp_path / "here.yaml"
    profile.write_text(PROFILE.to_yaml())
    options = ["--profile", str(profile)]
    assert fb("env", "build", "-o", str(site.dist), "--extra", "train", *options) == 0
    said = capsys.readouterr().out
    assert f"Built: {site.dist}" in said
    assert f"flat-bug[train] {flat_bug.__version__} for {TARGET}" in said
    assert fb("env", "check", str(site.dist), "--extra", "train", *options) == 0
    assert f"Good: {site.dist}" in capsys.readouterr().out
    _remove_a_wheel(site.dist)
    assert fb("env", "check", str(site.dist), "--json", *options) == 3
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert not found["good"]
    assert found["mend"].startswith("Run: fb env build")
    assert "missing: " in captured.err
    assert fb("env", "build", "-o", str(site.dist), "--json", *options) == 0
    built = json.loads(capsys.readouterr().out)
    assert built["downloaded"] == ["legs-1.0-py3-none-any.whl"]


# The real thing


@pytest.mark.slow
def test_flat_bug_itself_is_built_and_starts_in_each_of_the_four_ways(tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    built = build_environment(PROFILE, dist)
    assert check_environment(dist, PROFILE).problems == ()
    # It has no wheel of its own, and is built where that takes no compiler.
    assert any(wheel.file.startswith("pyvips-") and "none-any" in wheel.file for wheel in built.manifest.wheels)
    for method in ("squashfs", "tar", "uv", "pip"):
        settings = tmp_path / "settings.json"
        settings.write_text(json.dumps({"dist": str(dist), "python": "", "method": method, "persistent": False}))
        done = run_script(settings, tmp_path / "node")
        assert done.returncode == 0, done.stderr
        python = Path(done.stdout.strip())
        subprocess.run([python, "-I", "-c", "import flat_bug, onnxruntime, pyvips, polars"], check=True, cwd="/")
        subprocess.run([python.parent / "fb", "--version"], check=True, cwd="/")
        assert run_script("--clean", tmp_path / "node").returncode == 0
