"""What a cluster says of itself, the profile that is made of it, and the one place that runs Slurm's commands."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from flat_bug.cli._support import run
from flat_bug.cli.main import build_app
from flat_bug.cluster import scheduler
from flat_bug.cluster.login_shell import available_pythons, load_modules
from flat_bug.cluster.option_values import header_line
from flat_bug.cluster.probe import best_python, probe
from flat_bug.cluster.profile import ClusterProfile, load_profile
from flat_bug.cluster.rehearsal.local_slurm import LocalSlurm
from flat_bug.cluster.rehearsal.shape import ClusterShape
from flat_bug.cluster.scheduler import SchedulerError, SchedulerSilentError, run_command, try_submission
from flat_bug.cluster.site import Site, check_alive, read_site

Maker = Callable[[ClusterShape], LocalSlurm]
HOSTILE = [
    "a b#c",
    "\"d'e\\f",
    "$(touch pwned)`id`;reboot",
    " lead",
    "é ü",
    "\\",
    "#",
    '"',
    "'",
    "%j %u",
    "\\n",
    "--wrap=id",
]


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the user's own profiles, which is empty."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("SBATCH_ACCOUNT", "SLURM_ACCOUNT", "SCRATCH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "config" / "flat-bug"


def fb(*words: str) -> int:
    return run(build_app(words), list(words))


def write_program(folder: Path, name: str, text: str) -> Path:
    """Make a program that is found before the real one."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return path


class TestRunningCommands:
    @pytest.fixture(autouse=True)
    def path(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", os.environ["PATH"])

    def test_arguments_arrive_as_they_are_and_nothing_runs(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        write_program(tmp_path / "bin", "squeue", 'printf "%s\\n" "$@"')
        words = ["$(touch pwned)", "`touch pwned`", "; touch pwned", "a  b", "*"]
        assert run_command(["squeue", *words]).splitlines() == words
        assert not (tmp_path / "pwned").exists()

    def test_a_surrounding_job_does_not_leak_into_commands(self, tmp_path, monkeypatch):
        for name in ("SLURM_JOB_ID", "SBATCH_PARTITION", "SLURM_CONF", "SQUEUE_FORMAT", "SLURM_JWT", "FLAT_BUG"):
            monkeypatch.setenv(name, "x")
        write_program(tmp_path / "bin", "squeue", "env")
        seen = {line.partition("=")[0] for line in run_command(["squeue"]).splitlines()}
        assert {"SLURM_CONF", "SLURM_JWT", "FLAT_BUG", "PATH"} <= seen
        assert not {"SLURM_JOB_ID", "SBATCH_PARTITION", "SQUEUE_FORMAT"} & seen

    def test_standard_input_is_the_text_or_nothing(self, tmp_path):
        write_program(tmp_path / "bin", "sbatch", "cat")
        assert run_command(["sbatch"], stdin="one\ntwo\n") == "one\ntwo\n"
        assert run_command(["sbatch"]) == ""

    def test_the_first_line_of_an_error_is_what_happened(self, tmp_path):
        write_program(tmp_path / "bin", "sbatch", 'echo "sbatch: error: the first" >&2; echo second >&2; exit 1')
        with pytest.raises(SchedulerError) as caught:
            run_command(["sbatch"])
        assert (caught.value.what, caught.value.where) == ("the first", "sbatch")
        assert not isinstance(caught.value, SchedulerSilentError)
        assert caught.value.exit_code == 3

    @pytest.mark.parametrize(
        "text", ["squeue: error: Unable to contact slurm controller (connect failure)", "Socket timed out"]
    )
    def test_a_controller_that_does_not_answer_is_another_error(self, tmp_path, text):
        write_program(tmp_path / "bin", "squeue", f'echo "{text} on send/recv operation" >&2; exit 1')
        with pytest.raises(SchedulerSilentError, match="the scheduler does not answer"):
            run_command(["squeue"])

    def test_an_absent_command_and_one_that_never_ends(self, tmp_path):
        with pytest.raises(SchedulerSilentError, match="Slurm's command no-such-command is not here"):
            run_command(["no-such-command"])
        write_program(tmp_path / "bin", "squeue", "sleep 60")
        with pytest.raises(SchedulerSilentError, match=r"did not answer within 0\.2 s"):
            run_command(["squeue"], timeout=0.2)

    def test_what_is_not_text_is_shown_anyway(self, tmp_path):
        write_program(tmp_path / "bin", "squeue", 'printf "\\377\\n"')
        assert run_command(["squeue"]) == "�\n"

    def test_without_sbatch_nothing_can_be_submitted(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))
        assert not scheduler.is_available()
        write_program(tmp_path / "bin", "sbatch", "true")
        assert scheduler.is_available()


class TestChoosingPython:
    @pytest.mark.parametrize(
        ("modules", "best"),
        [
            (("python/3.10.13", "python/3.11.5", "python/3.12.4"), "python/3.11.5"),
            (("python/3.11.5", "python/3.11.10"), "python/3.11.10"),
            (("python/3.12.4", "python/3.13.2"), "python/3.12.4"),
            (("Python/3.11.3-GCCcore-12.3.0",), "Python/3.11.3-GCCcore-12.3.0"),
            (("python/3.9", "python/3.10.2"), None),
            ((), None),
        ],
    )
    def test_the_oldest_version_that_will_do_in_its_newest_patch(self, modules, best):
        assert best_python(modules) == best


@pytest.mark.slurm
class TestSite:
    def test_a_cluster_with_everything(self, make_slurm: Maker):
        shape = ClusterShape(nodes=2, accounts=("def-lab", "rrg-lab"), max_submit_jobs=50, partitions=("main", "gpu"))
        make_slurm(shape)
        site = read_site()
        assert [(p.name, p.is_default, p.is_up, p.cpus, p.memory_mb, p.gres, p.nodes) for p in site.partitions] == [
            ("main", True, True, 4, 4096, ("gpu:t4:1",), 2),
            ("gpu", False, True, 4, 4096, ("gpu:t4:1",), 2),
        ]
        assert site.associations is not None
        assert [(a.account, a.is_default, a.max_submit_jobs) for a in site.associations][:2] == [
            ("def-lab", True, 50),
            ("rrg-lab", False, 50),
        ]
        assert site.has_arrays
        assert site.has_accounting
        assert site.enforces_accounts
        assert site.is_this_machine
        assert (site.max_array_size, site.version[:2].isdecimal()) == (1001, True)

    def test_a_cluster_with_nothing(self, make_slurm: Maker):
        make_slurm(ClusterShape(nodes=1, gpus=0, accounting=False, arrays=False, modules=False))
        site = read_site()
        assert site.associations is None
        assert site.partitions[0].gpus == ()
        assert not site.has_arrays
        assert not site.has_accounting
        assert not site.enforces_accounts

    def test_a_controller_that_is_down_is_noticed_at_once(self, slurm: LocalSlurm):
        check_alive()
        slurm.stop_controller()
        with pytest.raises(SchedulerSilentError, match="slurmctld is down"):
            read_site()

    def test_without_its_database_the_rest_is_known(self, slurm: LocalSlurm):
        slurm.stop_accounting()
        site = read_site()
        assert site.has_accounting
        assert site.associations is None
        assert site.partitions

    def test_sbatch_reads_back_exactly_what_the_header_holds(self, slurm: LocalSlurm, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for value in HOSTILE:
            script = f"#!/bin/bash\n{header_line('comment', value)}\n{header_line('hold', True)}\ntouch pwned\n"
            job = run_command(["sbatch", "--parsable"], stdin=script).strip()
            shown = run_command(["squeue", "--noheader", f"--jobs={job}", "--format=%k"])
            assert shown.rstrip("\n") == value
        assert not (tmp_path / "pwned").exists()

    def test_a_job_is_tried_without_submitting_it(self, slurm: LocalSlurm):
        assert "to start at" in try_submission("#!/bin/bash\n#SBATCH --time=5\n")
        assert run_command(["squeue", "--noheader"]) == ""
        with pytest.raises(SchedulerError, match="node configuration is not available"):
            try_submission("#!/bin/bash\n#SBATCH --gres=gpu:v100:1\n")
        with pytest.raises(SchedulerError, match="invalid partition"):
            try_submission("#!/bin/bash\n#SBATCH --partition=nowhere\n")


@pytest.mark.slurm
class TestModules:
    def test_modules_are_loaded_as_in_a_job(self, slurm: LocalSlurm):
        shell = load_modules(["module purge", "module load python/3.11.5 gcc"], "python")
        assert shell.has_modules
        assert set(shell.loaded) == {"python/3.11.5", "gcc/12.3"}
        assert shell.failure == ""
        assert shell.interpreter is not None
        assert shell.interpreter.version.startswith("3.")
        assert available_pythons() == ("python/3.11.5",)

    def test_a_module_that_is_not_there_is_named(self, slurm: LocalSlurm):
        assert '"r/9"' in load_modules(["module load r/9"], "python3").failure
        assert load_modules([], "no-such-python").interpreter is None


@pytest.mark.slurm
class TestProbe:
    def test_the_profile_of_a_cluster_with_everything(self, make_slurm: Maker, mine, capsys, monkeypatch):
        make_slurm(ClusterShape(nodes=1, accounts=("def-lab", "rrg-lab"), max_submit_jobs=50))
        monkeypatch.setenv("SBATCH_ACCOUNT", "rrg-lab")
        assert fb("cluster", "probe") == 0
        profile = load_profile()
        assert (profile.name, profile.modules, profile.python) == ("rehearsal", ("python/3.11.5",), "python3")
        assert profile.accounts[:2] == ("rrg-lab", "def-lab")
        assert (profile.arrays, profile.accounting, profile.max_array_size, profile.max_submit_jobs) == (
            *(True, True, 1001, 50),
        )
        assert profile.resources_for("score-model") == {
            **{"gres": "gpu:1", "cpus-per-task": "4", "mem": "3686M", "time": "02:00:00"}
        }
        assert "gres" not in profile.resources_for("finalise")
        text = (mine / "default.yaml").read_text()
        assert "# scontrol show config: MaxArraySize" in text
        assert "# main: 1 nodes with 4 processors, 4096 MB, gpu:t4:1; up to" in text
        captured = capsys.readouterr()
        assert str(mine / "default.yaml") in captured.out
        assert "note: finalise: could start at" in captured.err

    def test_the_profile_of_a_cluster_with_nothing(self, make_slurm: Maker):
        make_slurm(ClusterShape(nodes=1, gpus=0, accounting=False, arrays=False, modules=()))
        found = probe()
        assert not found.profile.arrays
        assert not found.profile.accounting
        assert not found.profile.account_required
        assert found.profile.accounts == ()
        assert found.profile.modules == ()
        assert "gres" not in found.profile.resources_for("score-model")
        assert all("could start at" in note for note in found.notes)

    def test_a_profile_is_not_replaced_unless_asked(self, slurm: LocalSlurm, mine, capsys):
        mine.mkdir(parents=True)
        (mine / "ours.yaml").write_text("name: ours")
        assert fb("cluster", "probe", "--name", "ours") == 2
        assert "--force replaces it" in capsys.readouterr().err
        assert (mine / "ours.yaml").read_text() == "name: ours"
        assert fb("cluster", "probe", "--name", "ours", "--force") == 0
        assert load_profile("ours").name == "rehearsal"

    def test_it_goes_where_it_is_asked_to(self, slurm: LocalSlurm, tmp_path, capsys):
        assert fb("cluster", "probe", "-o", str(tmp_path / "here.yaml"), "--json") == 0
        said = json.loads(capsys.readouterr().out)
        assert said["file"] == str(tmp_path / "here.yaml")
        assert ClusterProfile.from_yaml(tmp_path / "here.yaml").name == said["profile"]["name"] == "rehearsal"

    def test_where_the_database_is_down_accounts_are_said_to_be_unknown(self, slurm: LocalSlurm):
        slurm.stop_accounting()
        found = probe()
        assert found.profile.accounts == ()
        assert found.notes[0] == "the accounting does not answer, so accounts and limits are unknown"

    def test_a_controller_that_is_down_ends_it_with_3(self, slurm: LocalSlurm, mine, capsys):
        slurm.stop_controller()
        assert fb("cluster", "probe") == 3
        assert "slurmctld is down" in capsys.readouterr().err
        assert not mine.exists()


class TestCommands:
    def test_a_name_that_is_no_file_name_is_refused(self, capsys):
        assert fb("cluster", "probe", "--name", "../x") == 2
        assert "letters, digits" in capsys.readouterr().err

    def test_without_slurm_it_says_so(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv("PATH", str(tmp_path))
        assert fb("cluster", "probe") == 3
        assert "Slurm's command scontrol is not here" in capsys.readouterr().err

    def test_profiles_are_listed_a_broken_one_too(self, mine, capsys, monkeypatch):
        mine.mkdir(parents=True)
        (mine / "default.yaml").write_text("name: ours\naccounts: [def-lab]\n")
        (mine / "broken.yaml").write_text("name: [")
        assert fb("cluster", "profiles", "--json") == 0
        rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
        assert list(rows) == ["alliance", "broken", "default", "generic"]
        assert rows["alliance"]["from"] == "shipped"
        assert (rows["default"]["account"], rows["default"]["description"]) == ("def-lab", "ours")
        assert rows["broken"]["description"].startswith("broken: the configuration is not YAML")
        assert fb("cluster", "profiles") == 0
        assert "Used when none is named: default" in capsys.readouterr().out

    def test_one_profile_is_printed_with_its_comments(self, capsys):
        assert fb("cluster", "profiles", "alliance") == 0
        assert "# wiki/Running_jobs" in capsys.readouterr().out
        assert fb("cluster", "profiles", "alliance", "--json") == 0
        assert json.loads(capsys.readouterr().out)["profile"]["account_required"] is True
        assert fb("cluster", "profiles", "nowhere") == 2


def test_accounts_of_the_alliance_have_another_name_in_the_database():
    """There people write def-lab, and sacctmgr knows def-lab_cpu and def-lab_gpu."""
    from flat_bug.cluster.site import Association

    one = Association("def-lab_gpu")
    assert one.short_name == "def-lab"
    assert one.is_meant_by("def-lab")
    assert one.is_meant_by("def-lab_gpu")
    assert not one.is_meant_by("def")
    assert Association("def-lab", is_default=True).is_meant_by(None)


def test_nodes_are_this_machine_only_if_all_are():
    here = os.uname().nodename
    assert Site(hosts=frozenset({here})).is_this_machine
    assert not Site(hosts=frozenset({here, "node1"})).is_this_machine
    assert not Site().is_this_machine
