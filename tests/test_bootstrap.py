"""What jobs are given, kept as files that a person can review: ``bootstrap.sh`` and the headers of batch scripts.

After a change that is meant, renew them and read the difference: ``FLAT_BUG_RENEW=1 pytest tests/test_bootstrap.py``.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import missing
from tests.test_compare_models_run import make_network, make_place

from flat_bug.cli._support import run
from flat_bug.cli.main import build_app
from flat_bug.cluster.batch_script import batch_script, managed_options, seconds_before_end
from flat_bug.cluster.bootstrap import TIME_UP, bootstrap_script
from flat_bug.cluster.files_of_jobs import settings_of
from flat_bug.cluster.options import parse_slurm
from flat_bug.cluster.profile import ClusterProfile, load_profile
from flat_bug.cluster.resources import finaliser_options, options_of
from flat_bug.cluster.submission import Submission
from flat_bug.experiments.score_task import CALL

GOLDEN = Path(__file__).parent / "golden"
GUIDE = ("slurm_setup=setup.txt", "gres=gpu:t4:1", "cpus_per_task=12", "mem=32GB", "time=01:00:00")
TOKEN = "flat-bug:0123456789abcdef"  # noqa: S105 - drawn anew for each submission
LONGEST_LINE = 200
USUAL_PATH = f"{Path(sys.executable).parent}:/usr/bin:/bin"
SCRIPTS = {
    "bootstrap-generic.sh": lambda: bootstrap_script(load_profile("generic")),
    "bootstrap-alliance.sh": lambda: bootstrap_script(load_profile("alliance")),
    "bootstrap-slurm-setup.sh": lambda: bootstrap_script(load_profile("generic"), has_setup=True),
    "array.sbatch": lambda: batch_script(_tasks()),
    "array-max-parallel.sbatch": lambda: batch_script(_tasks(), max_parallel=1),
    "single.sbatch": lambda: batch_script(_tasks().model_copy(update={"is_array": False}), 1),
    "finaliser.sbatch": lambda: batch_script(_finaliser()),
}


def _tasks() -> Submission:
    options = {"job-name": "compare-models", **options_of(settings_of(parse_slurm(GUIDE)), CALL)}
    return Submission(number=1, purpose="tasks", token=TOKEN, elements=(("best",), ("weaker",)), options=options)


def _finaliser() -> Submission:
    options = finaliser_options(settings_of(parse_slurm([*GUIDE, "account=def-lab"])))
    options |= {"job-name": "compare-models-report", "dependency": "afterany:42"}
    return Submission(number=2, purpose="finaliser", token=TOKEN, options=options, is_array=False)


@pytest.fixture(autouse=True)
def _only_shipped_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("SBATCH_ACCOUNT", "SLURM_ACCOUNT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    make_network(make_place(tmp_path) / "models" / "other" / "weights" / "best.onnx", (0.0, 0.0, 40.0, 12.0))
    return tmp_path


def golden(name: str) -> str:
    """Return the reviewed text; read as bytes, so that no line end is lost."""
    return (GOLDEN / name).read_bytes().decode()


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_jobs_are_given_is_what_was_reviewed(name: str) -> None:
    text = SCRIPTS[name]()
    if os.environ.get("FLAT_BUG_RENEW") == "1":
        (GOLDEN / name).write_bytes(text.encode())
    renew = f"If the change is meant: FLAT_BUG_RENEW=1 pytest {Path(__file__).name}, and read git diff tests/golden"
    assert text == golden(name), renew


def test_each_reviewed_file_belongs_to_a_test() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_bash_can_read_it(name: str) -> None:
    done = subprocess.run(["/bin/bash", "-n", str(GOLDEN / name)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", SCRIPTS)
def test_shellcheck_finds_nothing(name: str) -> None:
    program = shutil.which("shellcheck")
    if program is None:
        missing("shellcheck")
    # What is sourced comes from the user or the site; a profile may name a single variable.
    command = [program, "--norc", "--severity=warning", "--exclude=SC1090,SC2043", "--shell=bash", str(GOLDEN / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_person_can_read_it(name: str) -> None:
    text = golden(name)
    assert text.startswith("#!/bin/bash\n")
    assert text.endswith("\n")
    assert text.isascii()
    assert max(map(len, text.splitlines())) < LONGEST_LINE


@pytest.mark.parametrize(
    ("words", "script", "bootstrap"),
    [
        (GUIDE, "array.sbatch", "bootstrap-slurm-setup.sh"),
        ((*GUIDE, "max_parallel=1"), "array-max-parallel.sbatch", "bootstrap-slurm-setup.sh"),
        (GUIDE[1:], "array.sbatch", "bootstrap-generic.sh"),
        ((*GUIDE[1:], "profile=generic"), "array.sbatch", "bootstrap-generic.sh"),
    ],
)
@pytest.mark.usefixtures("place")
def test_a_dry_run_prints_exactly_that_and_makes_nothing(
    words: tuple[str, ...], script: str, bootstrap: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(Path().rglob("*"))
    given = ["-i", "images", "-g", "truth.json", "-d", "models/*", "-o", "run", "--dry-run", "--slurm", *words]
    assert run(build_app(), ["run", "compare-models", *given]) == 0
    printed = capsys.readouterr().out
    assert f"\n# ---- what sbatch is given ----\n{golden(script)}\n# ----" in printed
    assert printed.endswith(f"\n# ---- bootstrap.sh ----\n{golden(bootstrap)}")
    assert set(Path().rglob("*")) == before


def test_modules_that_stick_stay_since_they_lead_to_all_others() -> None:
    text = golden("bootstrap-alliance.sh")
    assert "  module purge\n  module load python/3.11.5 opencv/4.10.0 gcc scipy-stack/2024a r/4.4.0\n" in text


def test_without_modules_nothing_is_loaded() -> None:
    assert "module" not in golden("bootstrap-generic.sh")


@pytest.fixture
def setup_run(tmp_path: Path) -> Path:
    """Make a run folder whose setup script is still to be written."""
    (tmp_path / "slurm" / "submission-1").mkdir(parents=True)
    (tmp_path / "node").mkdir()
    (tmp_path / "bootstrap.sh").write_text(golden("bootstrap-slurm-setup.sh"))
    return tmp_path


@pytest.mark.parametrize(
    ("code", "note"),
    [
        ("false", "the script of slurm_setup (exit code 1, node n1)"),
        ("set +e; false; set -e; unzip nothing.zip", "the script of slurm_setup (exit code 9, node n1)"),
        ("exit 3", "the script of slurm_setup (exit code 3, node n1)"),
        ("exit 0", "the script of slurm_setup (exit code 0, node n1)"),
        (
            'PATH=/usr/bin:/bin; python() { return 1; }; mkdir bin; printf "#!/bin/sh\\nexit 5" >bin/python; '
            "chmod +x bin/python; unset -f python; PATH=$PWD/bin:$PATH",
            "the environment that the script of slurm_setup has made (exit code 5, node n1)",
        ),
    ],
)
def test_a_setup_script_that_fails_ends_the_job_with_its_step(code: str, note: str, setup_run: Path) -> None:
    (setup_run / "slurm" / "setup.sh").write_text(f"{code}\n")
    done = bootstrap(setup_run, PATH=USUAL_PATH)
    assert done.returncode == 1
    assert (setup_run / "slurm" / "submission-1" / "setup-failed-0").read_text() == f"{note}\n"
    assert f"setup failed: {note.split(' (', maxsplit=1)[0]}" in done.stderr


@pytest.mark.parametrize(
    "code",
    [
        "true",
        "set +e; false; false; true",
        "deactivate && module purge\necho",
        'echo "$NEVER_SET"',
        "cd /; trap - ERR",
        "return 0; false",
    ],
)
def test_a_setup_script_may_be_as_careless_as_people_are(code: str, setup_run: Path) -> None:
    (setup_run / "slurm" / "setup.sh").write_text(f"{code}\n")
    done = bootstrap(setup_run, PATH=USUAL_PATH)
    assert not (setup_run / "slurm" / "submission-1" / "setup-failed-0").exists()
    # The program for the tasks was reached, in the right folder; here it has no run.
    assert (done.returncode, "it has no plan.json" in done.stderr) == (2, True), done.stderr


def test_after_a_careless_setup_script_the_rest_is_strict_again(setup_run: Path) -> None:
    (setup_run / "slurm" / "setup.sh").write_text("set +eE; trap - ERR; PATH=/nowhere\n")
    assert bootstrap(setup_run, PATH=USUAL_PATH).returncode == 1
    note = setup_run / "slurm" / "submission-1" / "setup-failed-0"
    assert note.read_text().startswith("the environment that the script of slurm_setup has made (exit code 1")


def test_a_time_limit_that_comes_near_in_the_setup_is_no_fault_of_a_step(setup_run: Path) -> None:
    (setup_run / "slurm" / "setup.sh").write_text("kill -USR1 $$\nsleep 60\n")
    assert bootstrap(setup_run, PATH=USUAL_PATH).returncode == 1
    note = (setup_run / "slurm" / "submission-1" / "setup-failed-0").read_text()
    assert note == f"the script of slurm_setup ({TIME_UP}, node n1)\n"


def test_a_signal_before_the_program_is_there_to_hear_it_leaves_a_note(setup_run: Path) -> None:
    python = setup_run / "bin" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/bash\n[ "$1" = -c ] || kill -USR1 $$\n')
    python.chmod(0o755)
    (setup_run / "slurm" / "setup.sh").write_text('PATH="$PWD/bin:$PATH"\n')
    assert bootstrap(setup_run, PATH=USUAL_PATH).returncode == 1
    note = (setup_run / "slurm" / "submission-1" / "setup-failed-0").read_text()
    assert note == f"starting the tasks ({TIME_UP}, node n1)\n"


def test_of_several_nodes_that_fail_the_first_says_why(setup_run: Path) -> None:
    note = setup_run / "slurm" / "submission-1" / "setup-failed-0"
    note.write_text("staging: the archive is damaged (node n2)\n")
    (setup_run / "slurm" / "setup.sh").write_text("false\n")
    assert bootstrap(setup_run, "node", PATH=USUAL_PATH).returncode == 1
    assert note.read_text() == "staging: the archive is damaged (node n2)\n"


@pytest.mark.parametrize("code", ["false", "exit 0", "kill -USR1 $$; sleep 60", "kill -TERM $$"])
def test_a_setup_that_fails_leaves_nothing_in_the_folder_of_the_node(code: str, setup_run: Path) -> None:
    (setup_run / "slurm" / "setup.sh").write_text(f'touch "$SLURM_TMPDIR/file"\n{code}\n')
    local = setup_run / "local"
    local.mkdir()
    assert bootstrap(setup_run, SLURM_TMPDIR="", TMPDIR=str(local), PATH=USUAL_PATH).returncode != 0
    assert not list(local.iterdir())


def test_on_other_nodes_of_a_job_the_folder_stays_for_its_tasks(tmp_path: Path) -> None:
    (tmp_path / "slurm" / "submission-1").mkdir(parents=True)
    (tmp_path / "slurm" / "node_environment.py").write_text(
        "import sys\nprint('/bin/echo')\nassert '--clean' not in sys.argv\n"
    )
    (tmp_path / "bootstrap.sh").write_text(golden("bootstrap-generic.sh"))
    local = tmp_path / "local"
    local.mkdir()
    # Its step of srun has one node, though the job has several.
    done = bootstrap(tmp_path, "node", SLURM_TMPDIR="", TMPDIR=str(local), SLURM_NNODES="1", PATH=USUAL_PATH)
    assert (done.returncode, done.stdout) == (0, "-m flat_bug.cluster.job 1 0 --stage-only\n")
    assert (local / f"flat-bug-{os.getuid()}-7").is_dir()


def test_a_module_that_is_missing_ends_the_job_with_its_step(tmp_path: Path) -> None:
    profile = ClusterProfile(name="here", modules=("python/3.11.5", "gcc"))
    (tmp_path / "slurm" / "submission-1").mkdir(parents=True)
    (tmp_path / "node").mkdir()
    (tmp_path / "bootstrap.sh").write_text(bootstrap_script(profile))
    (tmp_path / "modules").write_text('module() { echo "module $*" >&2; [ "$1" != load ]; }\n')
    done = bootstrap(tmp_path, BASH_ENV=str(tmp_path / "modules"))
    assert done.returncode == 1
    assert "module load python/3.11.5 gcc\n" in done.stderr
    note = (tmp_path / "slurm" / "submission-1" / "setup-failed-0").read_text()
    assert note == "loading the modules (exit code 1, node n1)\n"


def bootstrap(run_folder: Path, *part: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run ``bootstrap.sh`` as a job would, without Slurm."""
    environment = {"SLURM_TMPDIR": str(run_folder / "node"), "SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n1", **variables}
    command = ["/bin/bash", "bootstrap.sh", "1", "0", *part]
    return subprocess.run(command, cwd=run_folder, env=environment, capture_output=True, text=True, check=False)


def test_a_job_without_a_local_folder_gets_a_private_one_that_goes_with_it(tmp_path: Path) -> None:
    (tmp_path / "slurm" / "submission-1").mkdir(parents=True)
    (tmp_path / "slurm" / "setup.sh").write_text('stat -c "%a %n" "$SLURM_TMPDIR" >seen\n')
    (tmp_path / "bootstrap.sh").write_text(golden("bootstrap-slurm-setup.sh"))
    local = tmp_path / "local"
    local.mkdir()
    done = bootstrap(tmp_path, SLURM_TMPDIR="", TMPDIR=str(local), PATH=USUAL_PATH)
    folder = local / f"flat-bug-{os.getuid()}-7"
    assert (tmp_path / "seen").read_text() == f"700 {folder}\n"
    assert f"there is no SLURM_TMPDIR here, so {folder} is used" in done.stderr
    assert not folder.exists()


def test_a_local_folder_that_somebody_else_has_made_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        missing("root, to give a folder away")
    (tmp_path / "slurm" / "submission-1").mkdir(parents=True)
    (tmp_path / "bootstrap.sh").write_text(golden("bootstrap-generic.sh"))
    folder = tmp_path / "local" / "flat-bug-0-7"
    folder.mkdir(parents=True)
    os.chown(folder, 65534, 65534)
    assert bootstrap(tmp_path, SLURM_TMPDIR="", TMPDIR=str(folder.parent)).returncode == 1
    note = (tmp_path / "slurm" / "submission-1" / "setup-failed-0").read_text()
    assert note.startswith("the local folder of the node (exit code 1")


@pytest.mark.parametrize(
    ("time", "seconds"),
    [(None, 120), ("01:00:00", 120), ("1", 15), ("0:30", 7), ("unlimited", 120), ("1-0", 120), ("0:01", 1)],
)
def test_tasks_are_asked_to_stop_early_enough_and_not_long_before(time: str | None, seconds: int) -> None:
    assert seconds_before_end(time) == seconds


@pytest.mark.parametrize("word", ["requeue", "no-requeue", "requeue=false"])
def test_whether_a_job_is_queued_again_is_the_users_to_say(word: str) -> None:
    submission = _tasks().model_copy(update={"options": parse_slurm([word]).options})
    lines = [line for line in batch_script(submission).splitlines() if "requeue" in line]
    assert lines == ["#SBATCH --requeue" if word == "requeue" else "#SBATCH --no-requeue"]


def test_a_comment_stays_and_the_token_follows() -> None:
    submission = _tasks().model_copy(update={"options": {"comment": "by hand"}})
    assert managed_options(submission)["comment"] == f"by hand {TOKEN}"


@pytest.mark.parametrize("words", [["profile=alliance"], []])
def test_the_account_that_people_always_use_is_charged(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBATCH_ACCOUNT", "def-mine")
    assert options_of(settings_of(parse_slurm(words)), CALL)["account"] == "def-mine"
    assert finaliser_options(settings_of(parse_slurm(words)))["account"] == "def-mine"
    assert options_of(settings_of(parse_slurm([*words, "account=def-other"])), CALL)["account"] == "def-other"


def test_the_account_of_the_profile_comes_before_that_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_ACCOUNT", "def-mine")
    (tmp_path / "p.yaml").write_text("name: p\naccounts: [def-lab]\n")
    assert options_of(settings_of(parse_slurm([f"profile={tmp_path / 'p.yaml'}"])), CALL)["account"] == "def-lab"
