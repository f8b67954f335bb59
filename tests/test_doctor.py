"""The doctor: each thing that keeps a run from working is a red line that says what to do."""

import errno
import itertools
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.archives import PREPARED, write_tree
from tests.conftest import missing

from flat_bug.cli._support import run
from flat_bug.cli.main import build_app
from flat_bug.cluster.checks import space, visible
from flat_bug.cluster.checks.finding import Case, Finding, Level, some, worst
from flat_bug.cluster.checks.jobs import check_account, check_jobs, check_limits, check_variables
from flat_bug.cluster.checks.nodes import check_environment_of, check_modules_and_python, extras_needed
from flat_bug.cluster.checks.places import check_inputs
from flat_bug.cluster.checks.space import check_space, over_quota
from flat_bug.cluster.checks.time_limit import check_time, measured_rate
from flat_bug.cluster.doctor import examine
from flat_bug.cluster.files_of_jobs import settings_of
from flat_bug.cluster.options import parse_slurm
from flat_bug.cluster.profile import ClusterProfile
from flat_bug.cluster.rehearsal.local_slurm import LocalSlurm
from flat_bug.cluster.rehearsal.shape import ClusterShape
from flat_bug.cluster.site import Association, Partition, Site, read_site
from flat_bug.cluster.submission import SlurmSettings
from flat_bug.datasets.archive import pack
from flat_bug.experiments.plan import Plan, Stage, Task
from flat_bug.experiments.record import Node, Record
from flat_bug.experiments.run_folder import RunFolder

Maker = Callable[[ClusterShape], LocalSlurm]
ELSEWHERE = Site(
    {"MaxArraySize": "1001", "AccountingStorageEnforce": "associations,limits"},
    partitions=(
        Partition("main", is_default=True, time_limit="1-00:00:00", cpus=8, memory_mb=16000, nodes=9),
        Partition("gpu", time_limit="03:00:00", cpus=16, memory_mb=64000, disk_mb=1, gres=("gpu:t4:4",), nodes=2),
    ),
    associations=(Association("def-lab", is_default=True), Association("rrg-lab_gpu", max_submit_jobs=5)),
    hosts=frozenset({"node1", "node2"}),
)
"""A cluster whose nodes are other machines than this one."""
HERE = replace(ELSEWHERE, hosts=frozenset({os.uname().nodename}))
"""A cluster whose nodes are this machine, so that they see all of its files."""
EMPTY_TRUTH = '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "insect"}]}'


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the user's own profiles, which is empty."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("SBATCH_ACCOUNT", "SLURM_ACCOUNT", "SCRATCH"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "config" / "flat-bug"
    folder.mkdir(parents=True)
    return folder


def settings(*words: str, **profile: object) -> SlurmSettings:
    made = ClusterProfile.from_mapping({"name": "x", **profile})
    return settings_of(parse_slurm(words)).model_copy(update={"profile": made})


def task(name: str = "one", *, stage: tuple[Stage, ...] = (), **args: str) -> Task:
    return Task(id=name, call="score-model", args=dict(args), inputs=tuple(args), stage=stage)


def tasks(count: int) -> tuple[Task, ...]:
    return tuple(task(f"task-{number}") for number in range(count))


def by_name(findings: Iterator[Finding] | list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def fb(*words: str) -> int:
    return run(build_app(words), list(words))


def examined(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, dict[str, str]]]:
    """Run ``fb doctor --json`` and return its exit code and its findings by name."""
    code = fb("doctor", "--json", *words)
    return code, {found["name"]: found for found in json.loads(capsys.readouterr().out)["findings"]}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return pack(write_tree(tmp_path / "fb_yolo")).archive


class TestFindings:
    def test_a_red_line_says_what_to_do(self):
        with pytest.raises(ValueError, match="says what to do"):
            Finding("x", Level.RED, "it is broken")

    def test_the_worst_counts(self):
        green, yellow, red = (Finding("x", level, "", "do") for level in Level)
        assert worst([green, yellow]) is Level.YELLOW
        assert worst([green, red, yellow]) is Level.RED
        assert worst([]) is Level.GREEN

    @given(st.lists(st.text(min_size=1)), st.integers(1, 9))
    def test_a_list_for_people_counts_what_it_leaves_out(self, names, most):
        text = some(names, most)
        assert text.startswith(", ".join(names[:most]))
        assert text.endswith(f" and {len(names) - most} more") == (len(names) > most)


class TestAccount:
    def finding(self, *words: str, **profile: object) -> Finding:
        return check_account(Case(settings(*words, **profile), site=ELSEWHERE))

    def test_one_of_yours(self):
        assert self.finding("account=def-lab").level is Level.GREEN
        assert self.finding("account=rrg-lab").level is Level.GREEN, "the database calls it rrg-lab_gpu"
        assert self.finding(accounts=["rrg-lab"]).found == "rrg-lab"
        assert self.finding().found == "your default one, def-lab"

    def test_one_that_is_not_yours(self):
        found = self.finding("account=other")
        assert (found.level, found.found) == (Level.RED, "other is not one of yours")
        assert "Yours: def-lab, rrg-lab" in found.mend

    def test_none_where_one_is_required(self):
        found = self.finding(account_required=True)
        assert found.level is Level.RED
        assert "account=NAME" in found.mend

    def test_one_that_is_not_yours_where_none_is_enforced(self):
        free = replace(ELSEWHERE, config={})
        found = check_account(Case(settings("account=other"), site=free))
        assert (found.level, found.found) == (Level.YELLOW, "other is not one of yours, which is not enforced here")
        assert check_account(Case(settings("account=other"))).level is Level.GREEN

    def test_another_one_in_the_login_shell(self, monkeypatch):
        monkeypatch.setenv("SBATCH_ACCOUNT", "rrg-lab")
        found = self.finding("account=def-lab")
        assert (found.level, found.found) == (Level.YELLOW, "def-lab, while your login shell says rrg-lab")

    def test_other_variables_of_sbatch_do_not_count(self):
        (found,) = check_variables({"SBATCH_PARTITION": "gpu", "SBATCH_ACCOUNT": "a", "HOME": "/"})
        assert (found.level, found.found) == (Level.YELLOW, "SBATCH_PARTITION of your login shell do not count")
        assert not list(check_variables({"SBATCH_PARTITION": "gpu", "SLURM_JOB_ID": "1"})), "those of a job"


class TestLimits:
    def finding(self, count: int, *words: str, **profile: object) -> Finding:
        (found,) = check_limits(Case(settings(*words, **profile), tasks(count), site=ELSEWHERE))
        return found

    def test_a_profile_that_fits(self):
        assert self.finding(3).level is Level.GREEN

    def test_arrays_that_are_longer_than_the_cluster_allows(self):
        found = self.finding(3, max_array_size=5000)
        assert (found.level, found.found) == (
            Level.RED,
            "the profile is wrong: MaxArraySize is 1001, not 5000 (max_array_size)",
        )
        assert self.finding(3, max_array_size=5000, arrays=False).level is Level.GREEN

    def test_arrays_where_there_are_none(self):
        without = replace(ELSEWHERE, config={"MaxArraySize": "0"})
        (found,) = check_limits(Case(settings(), tasks(1), site=without))
        assert found.level is Level.RED
        assert "arrays must be false" in found.found

    def test_a_limit_of_the_queue_that_the_profile_does_not_know(self):
        found = self.finding(9, "account=rrg-lab")
        assert (found.level, found.mend) == (Level.YELLOW, "Put it into the profile: max_submit_jobs: 5")
        assert self.finding(9, "account=rrg-lab", max_submit_jobs=5).level is Level.YELLOW
        assert self.finding(9, "account=rrg-lab", "tasks_per_job=3", max_submit_jobs=5).level is Level.GREEN


class TestModulesAndPython:
    def findings(self, **profile: object) -> list[Finding]:
        return check_modules_and_python(Case(settings(**profile)))

    def test_without_modules_the_interpreter_is_the_one_in_the_path(self):
        version = subprocess.run(["/bin/bash", "-lc", "python3 -V"], capture_output=True, text=True, check=True)
        minor = ".".join(re.findall(r"\d+", version.stdout)[:2])
        modules, python = self.findings(python_version=minor, glibc="2.17")
        assert modules.found == "the profile loads none"
        assert python.level is Level.GREEN
        assert python.found.startswith(version.stdout.split()[1])

    def test_another_version_than_the_profile_says(self):
        python = self.findings(python_version="3.99")[1]
        assert python.level is Level.RED
        assert "the profile says 3.99" in python.found
        assert "python_version" in python.mend

    def test_an_older_library_or_another_processor_is_worth_a_look(self):
        version = self.findings()[1].found.split(", ")[0].rpartition(".")[0]
        python = self.findings(python_version=version, glibc="2.99", machine="vax")[1]
        assert python.level is Level.YELLOW
        assert "the profile says vax and glibc 2.99 of the nodes" in python.found

    def test_no_interpreter(self):
        python = self.findings(python="no-such-python")[1]
        assert (python.level, python.found) == (Level.RED, "there is no no-such-python here")

    def test_a_script_of_the_users_sees_to_both(self, tmp_path):
        (tmp_path / "setup.sh").write_text("true\n")
        case = Case(settings(f"slurm_setup={tmp_path / 'setup.sh'}", modules=["nowhere/1"]))
        assert {found.level for found in check_modules_and_python(case)} == {Level.GREEN}
        assert check_environment_of(case).found == "made by the script of slurm_setup"


class TestEnvironment:
    def test_without_one_nodes_use_the_interpreter_of_this_process(self):
        on_a_cluster = check_environment_of(Case(settings(), site=ELSEWHERE))
        assert on_a_cluster.level is Level.YELLOW
        assert "fb env build" in on_a_cluster.mend
        assert check_environment_of(Case(settings(), site=HERE)).level is Level.GREEN

    def test_an_interpreter_that_nodes_do_not_see(self):
        hidden = settings().model_copy(update={"python": "/tmp/env/bin/python"})  # noqa: S108 - it is not there
        found = check_environment_of(Case(hidden, site=ELSEWHERE))
        assert found.level is Level.RED
        assert "--slurm environment=dist" in found.mend

    def test_a_folder_that_is_none(self, tmp_path):
        found = check_environment_of(Case(settings(f"environment={tmp_path}"), site=HERE))
        assert found.level is Level.RED
        assert "fb env build" in found.mend

    def test_a_folder_that_nodes_do_not_see(self, tmp_path):
        found = check_environment_of(Case(settings(f"environment={tmp_path}"), site=ELSEWHERE))
        assert found.level is Level.RED
        assert "which each machine has for itself" in found.found

    def test_what_tasks_need_beyond_the_usual(self):
        trained = task(weights="/a/best.pt")
        assert extras_needed([task(weights="a.onnx")]) == []
        assert extras_needed([trained, trained.model_copy(update={"id": "two"})]) == ["train"]
        assert extras_needed([Task(id="three", call="train-model")]) == ["train"]


class TestInputs:
    def findings(self, *made: Task, site: Site = HERE, words: tuple[str, ...] = ()) -> dict[str, Finding]:
        return by_name(check_inputs(Case(settings(*words), made, site=site)))

    def test_what_is_here_and_seen_by_nodes(self, tmp_path):
        (tmp_path / "a.onnx").touch()
        (tmp_path / "truth.json").write_text(EMPTY_TRUTH)
        found = self.findings(task(weights=str(tmp_path / "a.onnx"), ground_truth=str(tmp_path / "truth.json")))
        assert {finding.level for finding in found.values()} == {Level.GREEN}
        assert found["weights"].found == str(tmp_path / "a.onnx")

    def test_the_missing_ones_of_many_are_named(self, tmp_path):
        (tmp_path / "0.onnx").touch()
        made = [task(f"t{number}", weights=str(tmp_path / f"{number}.onnx")) for number in range(9)]
        found = self.findings(*made)["weights"]
        assert found.level is Level.RED
        assert found.found.endswith(f"{tmp_path / '4.onnx'} and 4 more: it is not there")

    def test_a_folder_of_this_machine_alone(self, tmp_path):
        (tmp_path / "a.onnx").touch()
        found = self.findings(task(weights=str(tmp_path / "a.onnx")), site=ELSEWHERE)["weights"]
        assert found.level is Level.RED
        assert "lies in /tmp, which each machine has for itself" in found.found

    def test_a_local_disk_is_worth_a_look(self, tmp_path, monkeypatch):
        (tmp_path / "a.onnx").touch()
        monkeypatch.setattr(visible, "OWN_FOLDERS", ())
        mounts = tmp_path / "mounts"
        mounts.write_text(f"disk / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\n")
        monkeypatch.setattr(visible, "MOUNTS", mounts)
        assert self.findings(task(weights=str(tmp_path / "a.onnx")), site=ELSEWHERE)["weights"].level is Level.GREEN
        mounts.write_text(f"server:/x / nfs4 rw 0 0\ndisk {tmp_path} xfs rw 0 0\n")
        assert self.findings(task(weights=str(tmp_path / "a.onnx")), site=ELSEWHERE)["weights"].level is Level.YELLOW

    def test_a_variable_that_nobody_has_set(self):
        found = self.findings(task(weights="$SCRATCH/a.onnx"))["weights"]
        assert (found.level, found.mend) == (Level.YELLOW, "Set SCRATCH here, or name the folder itself.")

    def test_a_broken_ground_truth(self, tmp_path):
        (tmp_path / "truth.json").write_text("{")
        found = self.findings(task(ground_truth=str(tmp_path / "truth.json")))["ground truth"]
        assert found.level is Level.RED

    @pytest.mark.parametrize("text", ["$(touch pwned)", "`touch pwned`", "; touch pwned", "'\"", "\x1b[31m"])
    def test_a_hostile_name_is_a_name(self, tmp_path, monkeypatch, text):
        monkeypatch.chdir(tmp_path)
        assert self.findings(task(weights=str(tmp_path / text)))["weights"].level is Level.RED
        (tmp_path / text).touch()
        assert self.findings(task(weights=str(tmp_path / text)))["weights"].level is Level.GREEN
        assert not (tmp_path / "pwned").exists()


class TestArchive:
    IMAGES = "$SLURM_TMPDIR/fb_yolo/insects/images/val"

    def findings(
        self, path: Path, *words: str, images: str = IMAGES, only: tuple[str, ...] = (), site: Site = HERE
    ) -> dict[str, Finding]:
        staged = Stage(archive=str(path), only=only)
        made = task(images=images, stage=(staged,))
        return by_name(check_inputs(Case(settings(*words), (made,), site=site)))

    def test_what_is_staged_is_there(self, archive):
        found = self.findings(archive, only=("insects/images/val",))
        assert found["images"].level is Level.GREEN
        assert found["archive"].level is Level.GREEN
        assert "go to each node" in found["archive"].found

    def test_braces_are_the_same_variable(self, archive):
        braces = self.IMAGES.replace("$SLURM_TMPDIR", "${SLURM_TMPDIR}")
        assert self.findings(archive, images=braces)["images"].level is Level.GREEN

    def test_what_the_archive_does_not_hold(self, archive):
        found = self.findings(archive, images="$SLURM_TMPDIR/fb_yolo/insects/images/test")
        assert (found["images"].level, found["archive"].level) == (Level.RED, Level.GREEN)
        assert "does not hold it" in found["images"].found

    def test_what_the_archive_holds_and_nobody_takes_out(self, archive):
        assert self.findings(archive, only=("insects/labels/val",))["images"].level is Level.RED

    def test_a_part_that_is_not_there(self, archive):
        found = self.findings(archive, only=("insects/images/test",))
        assert found["archive"].level is Level.RED
        assert found["images"].level is Level.RED

    def test_an_archive_that_is_cut_off(self, archive):
        archive.write_bytes(archive.read_bytes()[:-100])
        found = self.findings(archive)
        assert found["archive"].level is Level.RED
        assert found["images"].found.endswith(": its archive is not right")

    def test_an_archive_that_is_not_there(self, tmp_path):
        assert self.findings(tmp_path / "nowhere.zip")["archive"].level is Level.RED

    def test_an_archive_that_nodes_do_not_see(self, archive):
        found = self.findings(archive, site=ELSEWHERE)["archive"]
        assert found.level is Level.RED
        assert found.mend == "Move it to your home, project or scratch folder."

    def test_more_than_a_node_has_room_for(self, tmp_path):
        large = pack(write_tree(tmp_path / "fb_yolo", {**PREPARED, "insects/images/val/z.jpg": bytes(2 << 20)})).archive
        found = self.findings(large, "partition=gpu")["archive"]
        assert found.level is Level.RED
        assert "whose disk has 1.05 MB" in found.found

    def test_without_an_archive_nothing_puts_it_there(self):
        found = by_name(check_inputs(Case(settings(), (task(images=self.IMAGES),), site=HERE)))["images"]
        assert (found.level, found.mend) == (Level.RED, "Name the archive that holds it: -a fb_yolo.zip")

    def test_a_script_of_the_users_may_put_it_there(self, tmp_path):
        (tmp_path / "setup.sh").write_text("true\n")
        case = Case(settings(f"slurm_setup={tmp_path / 'setup.sh'}"), (task(images=self.IMAGES),), site=HERE)
        assert by_name(check_inputs(case))["images"].level is Level.YELLOW


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a disk of two megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["/bin/mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        missing("the right to mount a tmpfs")
    yield folder
    subprocess.run(["/bin/umount", str(folder)], check=True)


class TestSpace:
    def findings(self, run: Path | None, count: int = 0, *, site: Site = HERE, **profile: object) -> dict[str, Finding]:
        return by_name(check_space(Case(settings(**profile), tasks(count), run, site)))

    def test_room_for_the_run_and_at_home(self, tmp_path):
        found = self.findings(tmp_path / "not" / "yet", 3)
        assert found["run folder"].level is Level.GREEN
        assert found["home"].level is Level.GREEN
        assert "inodes free" in found["home"].found
        assert not (tmp_path / "not").exists()

    def test_a_disk_that_is_too_small_for_all_tasks(self, small_disk):
        found = self.findings(small_disk / "run", 10)["run folder"]
        assert found.level is Level.RED
        assert "500.00 MB" in found.found
        assert not list(small_disk.iterdir())

    def test_a_disk_that_is_full(self, small_disk):
        (small_disk / "large").write_bytes(bytes((2 << 20) - 8192))
        found = self.findings(small_disk / "run")["run folder"]
        assert (found.level, found.found) == (Level.RED, f"{small_disk} cannot be written: No space left on device")

    def test_a_home_over_quota_is_noticed_by_writing(self, tmp_path, monkeypatch):
        def over(*_: object, **__: object) -> None:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

        monkeypatch.setattr(space.tempfile, "NamedTemporaryFile", over)
        found = self.findings(None)["home"]
        assert (found.level, "quota" in found.mend) == (Level.RED, True)
        assert found.found.endswith("cannot be written: Disk quota exceeded")

    def test_a_run_folder_that_nodes_do_not_see(self, tmp_path, monkeypatch):
        monkeypatch.setenv("SCRATCH", str(tmp_path))
        found = self.findings(tmp_path / "out", site=ELSEWHERE, scratch="$SCRATCH")["run folder"]
        assert (found.level, found.mend) == (Level.RED, f"Choose one that nodes see: -o {tmp_path}/out")

    def test_a_run_folder_at_home_where_clusters_refuse_that(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.setenv("SCRATCH", str(tmp_path / "scratch"))
        for name in ("home", "scratch"):
            (tmp_path / name).mkdir()
        found = self.findings(tmp_path / "home" / "out", scratch="$SCRATCH", account_required=True)["run folder"]
        assert (found.level, found.mend) == (Level.YELLOW, f"Better: -o {tmp_path / 'scratch' / 'out'}")
        assert self.findings(tmp_path / "scratch" / "out", scratch="$SCRATCH")["run folder"].level is Level.GREEN

    def test_a_scratch_that_is_not_there(self, tmp_path, monkeypatch):
        monkeypatch.setenv("SCRATCH", str(tmp_path / "nowhere"))
        assert self.findings(None, scratch="$SCRATCH")["scratch"].level is Level.YELLOW

    def test_what_quota_commands_print(self):
        """As printed by quota 4.06 -w and by lfs 2.15 quota -q."""
        quota = """Disk quotas for user me (uid 1000):
     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
home:/export  52428800* 52428800 53477376   6days  120034  500000  500000
scratch:/s       1024  1048576 1048576               3       0       0
"""
        assert over_quota(quota) == ["home:/export 52428800* 52428800 53477376 6days 120034 500000 500000"]
        lustre = "  /lustre 20.1G* 20G 21G 6d23h 512034* 500000 510000 -\n"
        assert over_quota(lustre) == ["/lustre 20.1G* 20G 21G 6d23h 512034* 500000 510000 -"]
        assert over_quota("Disk quotas for user me (uid 1000): none\n") == []


class TestTime:
    def findings(self, archive: Path, *words: str, count: int = 1, run: Path | None = None) -> Finding:
        made = [
            task(f"t{number}", images="$SLURM_TMPDIR/x", stage=(Stage(archive=str(archive)),))
            for number in range(count)
        ]
        (found,) = check_time(Case(settings(*words), tuple(made), run, HERE))
        return found

    @pytest.fixture
    def large(self, tmp_path: Path) -> Path:
        """Return an archive of 100 MB of pictures."""
        files = {f"insects/images/val/{number}.jpg": bytes(10_000_000) for number in range(10)}
        return pack(write_tree(tmp_path / "large", files)).archive

    def test_a_limit_that_is_enough(self, large):
        found = self.findings(large, "time=02:00:00", "gres=gpu:1")
        assert found.level is Level.GREEN
        assert found.found == (
            "02:00:00 for about 91 s: 2 s staging at 50 MB/s, 10 images, 286 megapixels, "
            "assuming 10 megapixels a second on a GPU"
        ).replace("91 s", "2 min")

    def test_a_limit_that_is_too_short(self, large):
        found = self.findings(large, "time=00:05:00", "cpus_per_task=2")
        assert (found.level, found.mend) == (Level.RED, "Ask for more: time=00:22:00")

    def test_a_limit_without_room(self, large):
        found = self.findings(large, "time=00:20:00", "cpus_per_task=2")
        assert (found.level, found.mend) == (Level.YELLOW, "To be on the safe side: time=00:22:00")

    def test_tasks_that_share_a_job_add_up(self, large):
        words = ("time=01:00:00", "cpus_per_task=2", "tasks_per_job=9")
        assert self.findings(large, *words).level is Level.GREEN
        together = self.findings(large, *words, count=9)
        assert together.level is Level.RED
        assert "by 9 models" in together.found

    def test_large_weights_take_longer(self, large, tmp_path):
        weights = tmp_path / "large.onnx"
        with weights.open("wb") as stream:
            stream.truncate(120_000_000)
        small = self.findings(large, "time=01:00:00", "cpus_per_task=2")
        made = task(images="$SLURM_TMPDIR/x", weights=str(weights), stage=(Stage(archive=str(large)),))
        (found,) = check_time(Case(settings("time=01:00:00", "cpus_per_task=2"), (made,), None, HERE))
        assert (small.level, found.level) == (Level.GREEN, Level.RED)

    def test_what_a_run_has_measured_replaces_the_assumption(self, large, tmp_path):
        made = task("t0", images="$SLURM_TMPDIR/x", stage=(Stage(archive=str(large)),))
        with RunFolder.create(tmp_path / "run", Plan(experiment="x", tasks=(made,))) as folder:
            attempt = folder.task_folder(made) / "attempt-1"
            attempt.mkdir(parents=True)
            values = {"megapixels": 100.0, "predict_seconds": 1.0}
            record = {"task": "t0", "attempt": 1, "status": "ok", "started": "", "seconds": 1, "peak_memory_mb": 1}
            Record(**record, values=values, node=Node.here()).write(attempt)
        assert measured_rate(tmp_path / "run") == 100
        found = self.findings(large, "time=00:05:00", "cpus_per_task=2", run=tmp_path / "run")
        assert found.level is Level.GREEN
        assert "as measured in this run" in found.found
        assert measured_rate(tmp_path / "nowhere") is None

    def test_pictures_that_are_here_are_counted_here(self, tmp_path):
        write_tree(tmp_path / "pictures", {"a.JPG": bytes(9), "b/c.png": bytes(9), "notes.txt": b""})
        (found,) = check_time(Case(settings("time=60"), (task(images=str(tmp_path / "pictures")),), None, HERE))
        assert "2 images" in found.found

    def test_nobody_knows_the_number_of_images(self):
        (found,) = check_time(Case(settings("time=60"), (task(images="$SLURM_TMPDIR/x"),), None, HERE))
        assert found.level is Level.YELLOW

    def test_no_limit_at_all(self):
        (found,) = check_time(Case(settings(), (task(images="$SLURM_TMPDIR/x"),), None, HERE))
        assert (found.level, found.mend) == (Level.YELLOW, "Give time=HH:MM:SS after --slurm.")


@pytest.mark.slurm
class TestOnASlurm:
    def test_all_is_well(self, slurm: LocalSlurm, archive, capsys, mine):
        assert fb("cluster", "probe") == 0
        capsys.readouterr()
        code, found = examined(capsys, "-a", str(archive), "-o", str(archive.parent / "run"))
        assert (code, {row["level"] for row in found.values()}) == (0, {"green"})
        assert list(found) == [
            *("scheduler", "account", "jobs: score-model", "jobs: report", "limits", "modules", "python"),
            *("environment", "weights", "card", "images", "ground truth", "archive", "run folder", "home", "time"),
        ]
        assert "could start at" in found["jobs: score-model"]["found"]
        assert not slurm.ask("squeue", "-h").strip(), "nothing was submitted"
        assert not (archive.parent / "run").exists()

    @pytest.mark.parametrize(
        ("words", "found", "mend"),
        [
            (["gres=gpu:v100:1"], "not available", "its nodes have gpu:t4:1, not gpu:v100:1"),
            (["gres=gpu:t4:2"], "not available", "its nodes have gpu:t4:1, not gpu:t4:2"),
            (["mem=99G"], "not available", "mem=99G is more than the 4096 MB of its nodes"),
            (["cpus_per_task=99"], "More processors", "cpus_per_task=99 is more than the 4 of its nodes"),
            (["time=99-0"], "time limit is invalid", "time=99-0 is more than the"),
            (["partition=nowhere"], "invalid partition", "Give partition=NAME; there are: main."),
            (["constraint=nothing"], "Invalid feature", "Change that option"),
            (["reservation=nothing"], "reservation is invalid", "Change that option"),
            (["licenses=nothing"], "Invalid license", "Change that option"),
        ],
    )
    def test_what_slurm_refuses_and_what_to_do(self, slurm: LocalSlurm, words, found, mend):
        red = by_name(check_jobs(Case(settings(*words), site=read_site())))["jobs: score-model"]
        assert red.level is Level.RED
        assert found in red.found
        assert mend in red.mend

    @pytest.mark.parametrize("text", ["$(touch pwned)", "`touch pwned`", ";touch pwned", "'\"", "a b#c", "\\"])
    def test_a_hostile_option_is_refused_by_slurm_and_runs_nothing(
        self, slurm: LocalSlurm, tmp_path, monkeypatch, text
    ):
        monkeypatch.chdir(tmp_path)
        for name in ("partition", "reservation", "constraint", "gres"):
            found = by_name(check_jobs(Case(settings(f"{name}={text}"), site=read_site())))
            assert found["jobs: score-model"].level is Level.RED
        assert list(tmp_path.iterdir()) == [tmp_path / "config"]

    @pytest.mark.slow
    def test_a_wrong_account_where_accounts_are_enforced(self, make_slurm: Maker, capsys):
        make_slurm(ClusterShape(nodes=1, accounts=("def-lab", "rrg-lab"), max_submit_jobs=3))
        code, found = examined(capsys, "--slurm", "account=nowhere", "time=5", "mem=100M")
        assert code == 3
        assert found["account"]["found"] == "nowhere is not one of yours"
        assert "Invalid account" in found["jobs: score-model"]["found"]
        assert found["jobs: score-model"]["mend"].startswith("Your accounts: def-lab, rrg-lab")
        code, found = examined(capsys, "--slurm", "account=rrg-lab", "time=5", "mem=100M")
        assert code == 0
        assert found["limits"]["mend"] == "Put it into the profile: max_submit_jobs: 3"

    @pytest.mark.slow
    def test_a_queue_that_is_full_is_a_matter_of_waiting(self, make_slurm: Maker):
        cluster = make_slurm(ClusterShape(nodes=1, accounts=("def-lab",), max_submit_jobs=2))
        for _ in range(2):
            cluster.ask("sbatch", "--hold", "--output=/dev/null", "--wrap=true")
        found = by_name(check_jobs(Case(settings("mem=100M"), tasks(1), site=read_site())))
        assert found["jobs: score-model"].level is Level.YELLOW
        assert "too many jobs are queued" in found["jobs: score-model"].found

    def test_without_accounting_arrays_modules_and_gpus(self, make_slurm: Maker, capsys, mine):
        make_slurm(ClusterShape(nodes=1, gpus=0, accounting=False, arrays=False, modules=False))
        (mine / "default.yaml").write_text("name: x\nmodules: [python/3.11.5]\n")
        code, found = examined(capsys, "--slurm", "gres=gpu:t4:1", "mem=100M")
        assert code == 3
        assert found["scheduler"]["mend"] == "Write `accounting: false` into the profile x."
        assert found["limits"]["found"] == "the profile is wrong: there are no job arrays, so arrays must be false"
        assert "its nodes have no GPU, not gpu:t4:1" in found["jobs: score-model"]["mend"]
        assert found["modules"]["level"] == "red"
        (mine / "default.yaml").write_text("name: x\narrays: false\naccounting: false\nglibc: 2.17\n")
        code, found = examined(capsys, "--slurm", "mem=100M")
        assert (code, {row["level"] for row in found.values()}) == (0, {"green"})

    def test_a_controller_that_is_down(self, slurm: LocalSlurm, capsys):
        slurm.stop_controller()
        code, found = examined(capsys)
        assert (code, found["scheduler"]["level"]) == (3, "red")
        assert "slurmctld is down" in found["scheduler"]["found"]
        assert not any(name.startswith("jobs") for name in found)

    @pytest.mark.slow
    def test_the_command_itself_with_the_doctor_before_it(
        self, slurm: LocalSlurm, archive, tmp_path, capsys, monkeypatch
    ):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("SBATCH_ACCOUNT", "from-shell")
        options = ["-a", str(archive), "-w", "default", "-o", "out", "--slurm", "mem=1G", "--time", "00:00:30"]
        for start in (["fb", "run"], ["run"]):
            code, found = examined(capsys, "--", *start, "compare-models", *options)
            assert (code, found["time"]["level"]) == (3, "red")
            assert found["images"]["found"] == "$SLURM_TMPDIR/fb_yolo/insects/images/val"
            assert found["account"]["found"].startswith("from-shell is not one of yours, which is not enforced")
        assert not (tmp_path / "out").exists()
        assert fb("doctor", "--", "fb", "run", "compare-models", "-a", str(archive), "-o", "out") == 2
        assert "Add --slurm" in capsys.readouterr().err

    def test_a_run_is_examined_with_what_it_still_has_to_do(self, slurm: LocalSlurm, archive, tmp_path, capsys):
        made = task("one", images=TestArchive.IMAGES, stage=(Stage(archive=str(archive)),))
        with RunFolder.create(tmp_path / "run", Plan(experiment="x", tasks=(made,))):
            pass
        code, found = examined(capsys, str(tmp_path / "run"), "--slurm", "mem=100M", "time=60")
        assert (code, found["archive"]["level"]) == (0, "green")
        archive.unlink()
        assert examined(capsys, str(tmp_path / "run"), "--slurm", "mem=100M", "time=60")[0] == 3


class TestCommand:
    def test_on_a_terminal_and_in_a_log_each_red_line_is_followed_by_what_to_do(self, capsys, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        assert fb("doctor", "--slurm", "account=\u202e") == 3
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("red     scheduler")
        assert lines[1].strip().startswith("→ Run this on a login node of the cluster.")
        assert "\\u202e" in "".join(lines)
        assert re.fullmatch(r"\d+ red, \d+ yellow, \d+ green", lines[-1])

    def test_options_without_a_command_and_a_command_without_its_dashes(self, capsys):
        assert fb("doctor", "run", "compare-models", "-o", "out") == 2
        assert "Write -- before a command" in capsys.readouterr().err
        assert fb("doctor", "--slurm", "mem=1G", "--", "fb", "run", "compare-models", "-o", "out") == 2
        assert "the command has its own options of SLURM" in capsys.readouterr().err
        assert fb("doctor", "--", "fb", "run", "compare-models", "--slurm") == 2
        assert "Add -o FOLDER" in capsys.readouterr().err

    def test_what_is_wrong_with_the_options_is_a_line(self, capsys, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        code, found = examined(capsys, "-a", str(tmp_path / "nowhere.zip"), "-d", str(tmp_path / "none*"))
        assert (code, found["options"]["level"]) == (3, "red")
        assert found["options"]["mend"]

    def test_a_folder_that_is_no_run(self, tmp_path, capsys):
        assert fb("doctor", str(tmp_path)) == 2
        assert "not a run" in capsys.readouterr().err


def test_every_check_bears_a_machine_without_slurm(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "nowhere"))
    monkeypatch.setattr("flat_bug.cluster.site.SECONDS_TO_ANSWER", 0.5)
    findings = examine(settings(), tasks(2), tmp_path / "run")
    assert findings[0].level is Level.RED
    assert all(found.mend for found in findings if found.level is Level.RED)
    assert len({found.name for found in findings}) == len(findings)
    assert list(itertools.chain(check_limits(Case(settings())))) == []
