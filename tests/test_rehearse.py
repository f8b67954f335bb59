"""``fb rehearse``: what the cluster must be like, and runs that survive what is done to them."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from tests.comparison import ANIMAL, make_network, make_place, scores_of
from tests.conftest import need_slurm

from flat_bug.cli._support import run as run_words
from flat_bug.cli.main import build_app
from flat_bug.cluster.profile import ClusterProfile, load_profile
from flat_bug.cluster.rehearsal import ending
from flat_bug.cluster.rehearsal.command import Command
from flat_bug.cluster.rehearsal.daemons import marked, noted, wait_until
from flat_bug.cluster.rehearsal.failures import KillTask
from flat_bug.cluster.rehearsal.rehearse import Outcome
from flat_bug.cluster.rehearsal.request import Options, shape_for
from flat_bug.cluster.rehearsal.shape import ClusterShape, Folders, Ports
from flat_bug.cluster.rehearsal.slurm_conf import gres_conf, slurm_conf
from flat_bug.errors import UsageError

SCRIPT = Path(__file__).parents[1] / "scripts" / "experiments" / "compare_models.py"
SLURM = ("--slurm", "gres=gpu:a100:1", "cpus_per_task=2", "mem=2GB", "time=01:00:00")


def shape(*jobs: Options, setup: str = "", profile: str = "generic") -> ClusterShape:
    return shape_for(jobs, load_profile(profile), setup, nodes=1, gpus=0)


class TestTheClusterThatAPlanNeeds:
    def test_the_jobs_of_the_guide_fit_on_it(self) -> None:
        made = shape({"gres": "gpu:t4:1", "cpus-per-task": "12", "mem": "32GB", "time": "01:00:00"})
        assert (made.gpus, made.gpu_type, made.cpus) == (1, "t4", 12)
        # After --grow mem, too.
        assert made.memory_mb >= 2 * 32 * 1024

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"nodes": "2-4"}, {"nodes": 4}),
            ({"ntasks": "8", "nodes": "2", "cpus-per-task": "3"}, {"nodes": 2, "cpus": 12}),
            ({"ntasks-per-node": "8"}, {"cpus": 8}),
            ({"gpus": "a100:4", "nodes": "2"}, {"gpus": 2, "gpu_type": "a100"}),
            ({"gpus-per-node": "v100l:4", "cpus-per-gpu": "6"}, {"gpus": 4, "gpu_type": "v100l", "cpus": 24}),
            ({"gpus-per-task": "2", "ntasks-per-node": "3"}, {"gpus": 6}),
            ({"gres": "gpu"}, {"gpus": 1}),
            ({"gres": "gpu:2,lscratch:10"}, {"gpus": 2, "countable": ("lscratch:10",)}),
            ({"gres": "tmpspace:2K"}, {"countable": ("tmpspace:2048",)}),
            ({"account": "def-lab_gpu"}, {"accounts": ("def-lab_gpu",)}),
            ({"partition": "gpu,long"}, {"partitions": ("gpu", "long")}),
            ({"qos": "high"}, {"qos": ("high",)}),
            ({"qos": "normal"}, {"qos": ()}),
            ({"constraint": "[cascade|skylake*2]&nvme"}, {"features": ("cascade", "skylake", "nvme")}),
            ({"licenses": "matlab@flex:2,idl"}, {"licenses": ("matlab:1000", "idl:1000")}),
        ],
    )
    def test_what_jobs_ask_for_is_there(self, options: Options, expected: dict[str, object]) -> None:
        made = shape(options)
        assert {name: getattr(made, name) for name in expected} == expected

    def test_memory_may_be_asked_for_by_processor_or_gpu(self) -> None:
        assert shape({"mem-per-cpu": "4G", "cpus-per-task": "16"}).memory_mb >= 64 * 1024
        assert shape({"mem-per-gpu": "60G", "gres": "gpu:2"}).memory_mb >= 120 * 1024

    def test_it_lacks_and_limits_what_the_real_one_does(self) -> None:
        profile = ClusterProfile(
            name="spare", accounting=False, arrays=False, node_folders=("TMPDIR",), accounts=("a",)
        )
        made = shape_for([{}], profile, nodes=1, gpus=0)
        assert (made.accounting, made.arrays, made.node_folder, made.internet) == (False, False, False, False)
        assert made.accounts == ()
        limited = ClusterProfile(name="limited", max_submit_jobs=7, max_array_size=5, accounts=("a",))
        made = shape_for([{"account": "b"}], limited, nodes=1, gpus=0)
        assert (made.max_submit_jobs, made.max_array_size, made.accounts) == (7, 5, ("b", "a"))

    def test_the_modules_of_profile_and_setup_script_are_pretended(self) -> None:
        setup = "set -e\nmodule load cuda/12.2 $FB_MODULES\n  module load  gcc\nmodule purge\n"
        made = shape({}, setup=setup, profile="alliance")
        assert {"cuda/12.2", "python/3.11.5", "r/4.4.0"} <= set(made.module_names)
        # The one with a version is also the one without.
        assert "gcc" not in made.module_names
        assert "$FB_MODULES" not in made.module_names

    def test_what_only_the_real_cluster_has_is_said(self) -> None:
        with pytest.raises(UsageError) as caught:
            shape({"reservation": "weekend"})
        assert caught.value.where == "reservation=weekend"

    def test_only_one_type_of_gpu_is_pretended(self) -> None:
        with pytest.raises(UsageError, match="one type"):
            shape({"gres": "gpu:t4:1"}, {"gres": "gpu:a100:1"})

    @pytest.mark.parametrize("options", [{"nodes": "12372501920"}, {"gres": "gpu:99999999"}, {"gpus": "1t"}])
    def test_it_has_no_more_than_this_machine_can_pretend(self, options: Options) -> None:
        with pytest.raises(UsageError, match="at most 64"):
            shape(options)

    @given(
        st.sampled_from(
            ["account", "partition", "qos", "gres", "gpus", "constraint", "licenses", "nodes", "mem-per-cpu"]
        ),
        st.text(min_size=1) | st.from_regex(r"[a-z:,@&|]*\n?(Prolog=/x|[a-z]+:[0-9]+)[ \n;=]*", fullmatch=True),
    )
    def test_no_value_becomes_a_setting_of_slurm(self, name: str, value: str) -> None:
        if name == "mem-per-cpu":
            value = "2G"  # checked before, by the options themselves
        try:
            made = shape({name: value, "time": "01:00:00"})
        except UsageError:
            return
        plain = shape({"time": "01:00:00"})
        folders = Folders(Path("/x"))
        for text in (lambda it: slurm_conf(it, folders, ports(it), "h", "u"), lambda it: gres_conf(it, folders)):
            keys = {line.partition("=")[0] for line in text(made).splitlines()}
            assert keys <= {line.partition("=")[0] for line in text(plain).splitlines()} | {"Licenses", "Name"} | {
                "AccountingStorageEnforce"
            }


def ports(made: ClusterShape) -> Ports:
    return Ports(1, 2, tuple(range(3, 3 + made.nodes)))


class TestTheCommand:
    @pytest.mark.parametrize(
        "output", [["-o", "mine"], ["--output", "mine"], ["--output=mine"], ["-o=mine"], ["-omine"], []]
    )
    def test_its_output_goes_elsewhere_wherever_it_stands(self, output: list[str]) -> None:
        before, after = [sys.executable, "x.py", "-i", "images"], ["--slurm", "mem=1G", "wrap=-o"]
        expected = [*before, *after, "--output=/new"]
        assert Command((*before, *output, *after)).with_output(Path("/new")) == expected
        assert Command((*before, *after, *output, "--json", "--dry-run")).with_output(Path("/new")) == expected

    def test_a_word_of_it_stays_as_it_is(self, capsys: pytest.CaptureFixture[str]) -> None:
        # Neither our --debug nor the hyphens of our own options concern another command.
        words = ["python3-of-nowhere", "--some_option", "--debug", "--slurm", "a b", "$(touch pwned)"]
        assert run_words(build_app(), ["rehearse", "--", *words]) == 2
        assert "no such program" in capsys.readouterr().err
        assert Command((sys.executable, *words[1:])).with_output(Path("/new"))[1:-1] == words[1:]

    @pytest.mark.parametrize(
        ("words", "what"),
        [
            ([], "nothing to rehearse"),
            (["runs/none"], "no such run folder"),
            (["--", "echo", "hello"], "submits nothing to SLURM"),
            (["--", "echo", "--slurm", "mem=1G"], "no command that submits a run"),
            (["--", "false", "--slurm", "mem=1G"], "exit code 1"),
        ],
    )
    def test_what_cannot_be_rehearsed_is_said(
        self, words: list[str], what: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run_words(build_app(), ["rehearse", *words]) == 2
        assert what in capsys.readouterr().err


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make images and a model, and stand in the folder that holds them."""
    need_slurm(ClusterShape())
    monkeypatch.chdir(tmp_path)
    return make_place(tmp_path)


def rehearse(*words: str, command: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    code = "from flat_bug.cli.main import main; main()"
    asked = ["--", *command] if command else []
    full = [sys.executable, "-c", code, "rehearse", *words, *asked]
    return subprocess.run(full, capture_output=True, text=True, check=False)


def compare(*words: str, truth: str = "truth.json") -> tuple[str, ...]:
    inputs = ("-i", "images", "-g", truth, "-d", "models/*")
    return ("fb", "run", "compare-models", *inputs, "-o", "mine", *words)


def clusters_of(pid: int) -> list[Path]:
    """Return the clusters that a process has started and that are still there."""
    owners = ending.usual_parent().glob(f"{ending.PREFIX}*/{ending.OWNER}")
    return [owner.parent for owner in owners if (process := noted(owner)) is not None and process.pid == pid]


@pytest.mark.slurm
@pytest.mark.slow
class TestRehearsals:
    def test_every_failure_is_survived(self, place: Path) -> None:
        for number in range(4):
            make_network(place / "models" / f"m{number}" / "weights" / "best.onnx", ANIMAL, 0.5 + number / 10)
        kinds = ("kill-task", "crash-node", "drop-accounting", "fill-disk", "time-limit", "out-of-memory")
        if os.geteuid() != 0:
            kinds = tuple(kind for kind in kinds if kind != "fill-disk")
        words = [word for kind in kinds for word in ("--fail", kind)]
        command = (
            sys.executable,
            str(SCRIPT),
            *compare("--tmp", "$SLURM_TMPDIR/output", *SLURM, "account=def-lab")[3:],
        )
        done = rehearse(*words, "--keep", "kept", "--json", command=command)
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["ok"]
        assert {row["state"] for row in said["tasks"]} == {"done"}
        followed = {row["failure"]: row["what followed"] for row in said["failures"]}
        assert set(followed) == set(kinds)
        assert "failed: killed" in followed["kill-task"]
        assert "failed: time limit" in followed["time-limit"]
        assert "failed: out of memory" in followed["out-of-memory"]
        assert said["resumed"][0] == "fb resume RUN --grow mem"
        # The scores are those of a run that nothing happens to.
        assert run_words(build_app(), [*compare()[1:-1], "undisturbed"]) == 0
        assert_frame_equal(scores_of(place / "kept" / "run"), scores_of(place / "undisturbed"))
        # What it was told to keep is there, and what the command names is not.
        assert (place / "kept/run/report/report.html").is_file()
        assert "Started JobId" in (place / "kept/slurm-logs/slurmctld.log").read_text()
        assert not (place / "mine").exists()

    def test_a_run_is_rehearsed_by_its_plan(self, place: Path) -> None:
        assert run_words(build_app(), list(compare("--json")[1:])) == 0
        before = {path: path.stat().st_mtime_ns for path in (place / "mine").rglob("*")}
        done = rehearse("mine", "--nodes", "1")
        assert done.returncode == 0, done.stderr
        assert "The rehearsal went well" in done.stdout
        assert "Nothing is kept" in done.stdout
        assert {path: path.stat().st_mtime_ns for path in (place / "mine").rglob("*")} == before

    def test_a_real_mistake_is_found_and_its_log_is_kept(self, place: Path) -> None:
        (place / "images" / "forest_1.png").unlink()
        done = rehearse(command=compare("--soft", *SLURM, truth="$SLURM_TMPDIR/truth.json"))
        try:
            assert done.returncode == 1
            assert "good: failed: bad input: ground truth" in done.stderr
            log = next(line.split()[1] for line in done.stderr.splitlines() if "See " in line)
            assert Path(log).is_file()
        finally:
            kept = next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("Run:"))
            shutil.rmtree(Path(kept).parent)

    def test_slurms_refusal_ends_it_at_once(self, place: Path) -> None:
        done = rehearse(command=compare("--slurm", "mem=1G", "time=100-00:00:00"))
        assert done.returncode == 3
        assert "Slurm would refuse the job" in done.stderr
        assert "exit code 3" in done.stderr

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
    def test_interrupted_it_leaves_nothing(self, place: Path, number: signal.Signals) -> None:
        code = "from flat_bug.cli.main import main; main()"
        command = [sys.executable, "-c", code, "rehearse", "--", *compare(*SLURM)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert wait_until(lambda: bool(clusters_of(process.pid)), 60)
        (state,) = clusters_of(process.pid)
        assert wait_until(lambda: bool(marked(state)), 60)
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == (130 if number == signal.SIGINT else -number), output
        assert wait_until(lambda: not state.exists(), 20)
        assert not marked(state)
        assert sorted(path.name for path in place.iterdir()) == ["images", "models", "truth.json"]


def test_a_failure_that_came_to_nothing_is_no_success() -> None:
    outcome = Outcome(statuses=(), attempts={}, seen={}, injections=(KillTask(),), resumed=(), report=True)
    assert outcome.all_done
    assert not outcome.is_good
    assert replace(outcome, injections=(KillTask(done="killed one"),)).is_good
    assert not replace(outcome, injections=(), report=False).is_good


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("flat_bug.cluster.rehearsal.parts.find", lambda program: None)
    monkeypatch.setattr(Command, "ask", lambda self, output: pytest.fail("asked before the packages were looked for"))
    assert run_words(build_app(), ["rehearse", "--", *compare(*SLURM)]) == 3
    assert "slurmctld" in capsys.readouterr().err
