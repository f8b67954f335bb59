"""The guide's session, word for word, on a real Slurm: from S3 to the report; then the same journey in our commands."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from tests.conftest import missing, real_data_folder
from tests.s3_servers import KEY_ID, SECRET, seaweedfs

import flat_bug
from flat_bug.cluster.observe import observe
from flat_bug.cluster.rehearsal.local_slurm import LocalSlurm
from flat_bug.cluster.rehearsal.parts import missing_packages
from flat_bug.cluster.rehearsal.shape import ClusterShape
from flat_bug.cluster.submission import submissions
from flat_bug.experiments.run_folder import RunFolder, TaskState
from flat_bug.segmenters.base import ModelCard, card_path
from flat_bug.segmenters.load import default_weights

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

CHECKOUT = Path(__file__).parents[1]
SETUP = CHECKOUT / "scripts" / "experiments" / "slurm_config" / "setup.txt"
SHAPE = ClusterShape(nodes=3, gpus=1, gpu_type="t4", cpus=12, memory_mb=33_000)
BUCKET = "flat-bug-data-stable"
REAL = ("alus", "bumblebees")
SYNTHETIC = ("light-sheet", "petri-dish")
MODELS = ("experiment_1", "experiment_2")
SECONDS = 900

# What follows is the guide's text; what is said behind ADAPTED differs from it.

DATA = """
# Setup data directory
FBDIR="$HOME/scratch/fb_data"
mkdir "$FBDIR"
mkdir "$FBDIR/pre-pro"
mkdir "$FBDIR/fb_yolo"

# Download the flat-bug data to the data directory
s5cmd --endpoint-url $ENDPOINT sync -c 10 "s3://flat-bug-data-stable/pre-pro/*" "$FBDIR/pre-pro" # ADAPTED: endpoint
# Format the data for training/eval
fb_prepare_data -i "$FBDIR/pre-pro" -o "$FBDIR/fb_yolo"
# Create a zip-archive of the files for faster transfer to compute nodes
cd $FBDIR
zip -r fb_yolo.zip fb_yolo # Can be very slow and should be done in an interactive job
cd $HOME/flat-bug
"""

WHEELS = """
cd $HOME/flat-bug
# Create a wheel for flat-bug
python -m build --wheel
# Create wheels for the dependencies
pip download . -d dist # Can be pretty slow
"""

TEMPLATE = r"""
# Clean environment
deactivate && module purge
cd $HOME/flat-bug

# Setup virtual environments and local data on all nodes
srun --ntasks=$SLURM_NNODES --ntasks-per-node=1 bash <<EOF
#!/bin/bash
# Install flat-bug in a local virtual environment
module load python/3.11.5 opencv/4.10.0 gcc scipy-stack/2024a r/4.4.0
virtualenv --no-download \$SLURM_TMPDIR/env
source \$SLURM_TMPDIR/env/bin/activate
pip install --no-index --find-links=\$HOME/flat-bug/dist dist/flat_bug-0.3.0-py3-none-any.whl
pip list
echo "Current virtual environment (node \$SLURM_JOB_ID.\$SLURM_ARRAY_TASK_ID%\$SLURM_ARRAY_TASK_COUNT): \$VIRTUAL_ENV"
# Create the output directory for the job
mkdir \$SLURM_TMPDIR/job_output
# Copy flat-bug data to local storage
unzip /home/asgersve/scratch/fb_data/fb_yolo.zip -d \$SLURM_TMPDIR
# Print the state of the local storage
echo "Contents of the temporary \$SLURM_TMPDIR:"
ls -a1 \$SLURM_TMPDIR
EOF

# Activate the environment only on the main node (see https://docs.alliancecan.ca/wiki/Python)
module load python/3.11.5 opencv/4.10.0 gcc scipy-stack/2024a r/4.4.0
source $SLURM_TMPDIR/env/bin/activate;

echo "Running jobs..."
"""

COMPARE = r"""
cd $HOME/flat-bug
python scripts/experiments/compare_models.py \
    -i "\$SLURM_TMPDIR/fb_yolo/insects/images/val" \
    -g "\$SLURM_TMPDIR/fb_yolo/insects/labels/val/instances_default.json" \
    --tmp "\$SLURM_TMPDIR/job_output" \
    -o "$HOME/scratch/my_output_folder" \
    -d "~/scratch/output/experiment_*" \
    --soft \
    --slurm \
    slurm_setup=setup.txt \
    gres=gpu:t4:1 \
    cpus_per_task=12 \
    mem=32GB \
    time=01:00:00
"""

# The same journey in our commands, in a folder whose name a shell would run.

FOLDER = "a b $(touch pwned) '\""

OUR_DATA = """
cd "$HOME"/scratch/a*
fb data pull s3://flat-bug-data-stable/pre-pro data/pre-pro --endpoint-url $ENDPOINT
fb data prepare -i data/pre-pro -o data/fb_yolo
fb data pack data/fb_yolo
"""

OUR_WHEELS = """
cd "$HOME"/scratch/a*
fb env build -o dist
fb env check dist
"""

OUR_COMPARE = """
cd "$HOME"/scratch/a*
fb run compare-models -a data/fb_yolo.zip -d "~/scratch/output/experiment_*" -o ours \\
    --slurm environment=dist gres=gpu:t4:1 cpus_per_task=12 mem=32GB time=01:00:00
"""


@dataclass(frozen=True)
class Login:
    """A user's shell on the login node."""

    home: Path
    cluster: LocalSlurm
    endpoint: str

    def environment(self) -> dict[str, str]:
        strange = ("SLURM", "SBATCH", "SQUEUE", "SACCT", "XDG_", "FB_", "VIRTUAL_ENV")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(strange)}
        # What pip and uv are told about the network, and what they keep, is in the real home.
        real = Path.home()
        pip = real / ".config" / "pip" / "pip.conf"
        installers = {"UV_CACHE_DIR": str(real / ".cache" / "uv"), "PIP_CACHE_DIR": str(real / ".cache" / "pip")}
        installers |= {"PIP_CONFIG_FILE": str(pip)} if pip.is_file() else {}
        credentials = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        own = {"HOME": str(self.home), "PATH": path, "ENDPOINT": self.endpoint}
        return {**kept, **installers, **credentials, **self.cluster.environment(), **own}

    def type(self, commands: str) -> str:
        """Type commands and return what they print, or fail with it."""
        start = time.monotonic()
        done = self.try_to_type(commands)
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        print(f"{time.monotonic() - start:.1f} s: {commands.strip().splitlines()[-1].strip()}")
        return done.stdout

    def try_to_type(self, commands: str) -> "subprocess.CompletedProcess[str]":
        command = ["/bin/bash", "-c", f"set -e\n{commands}"]
        return subprocess.run(
            command, env=self.environment(), cwd=self.home, capture_output=True, text=True, check=False, timeout=SECONDS
        )


def real_source() -> Path | None:
    """Return the folder of the real images of the session, or None where they are not present."""
    folder = real_data_folder()
    return folder if folder and all((folder / name).is_dir() for name in REAL) else None


@pytest.fixture(scope="module", params=["real-images" if real_source() else "synthetic-images"])
def login(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Login]:
    """Log in where nothing is yet but the checkout, two trained models and a bucket of data.

    The name of each test says whether the images were real.
    """
    if packages := missing_packages(SHAPE):
        missing(f"Slurm ({', '.join(packages)})")
    for program in ("zip", "unzip", "virtualenv"):
        if shutil.which(program) is None:
            missing(program)
    home = tmp_path_factory.mktemp("guide") / "somebody"
    (home / "scratch").mkdir(parents=True)
    copy_checkout(home / "flat-bug")
    for name in MODELS:
        make_model(home / "scratch" / "output" / name)
    with pytest.MonkeyPatch.context() as patch, seaweedfs() as server, LocalSlurm(SHAPE) as cluster:
        for name, value in cluster.environment().items():
            patch.setenv(name, value)
        server.put(BUCKET, objects_of(home.parent))
        yield Login(home, cluster, server.endpoint)


def objects_of(folder: Path) -> dict[str, bytes]:
    """Return key → content of what lies in the bucket: real images where they are present."""
    source, names = real_source(), REAL
    if source is None:
        source, names = folder / "synthetic", SYNTHETIC
        words = ["--images", "6", "--size", "640", "480", "--seed", "1", *(f"-d={name}" for name in names)]
        subprocess.run([Path(sys.executable).with_name("fb"), "data", "synth", "-o", source, *words], check=True)
    files = [path for name in names for path in (source / name).iterdir()]
    return {f"pre-pro/{path.relative_to(source)}": path.read_bytes() for path in files}


def copy_checkout(target: Path) -> None:
    """Copy what a wheel is built from and what the guide runs, so that the real checkout stays as it is."""
    for name in ("src", "scripts"):
        shutil.copytree(CHECKOUT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(CHECKOUT / name, target / name)


def make_model(folder: Path) -> None:
    """Write a folder as training leaves it; the second model sees less around each animal."""
    weights = folder / "weights" / "best.onnx"
    weights.parent.mkdir(parents=True)
    shutil.copyfile(default_weights(), weights)
    card = ModelCard.model_validate_json(card_path(default_weights()).read_text())
    if folder.name == MODELS[1]:
        side = max(card.stride * 4, card.tile // 4 // card.stride * card.stride)
        card = card.model_copy(update={"tile": side, "largest_object": side // 2, "scores": ()})
    card_path(weights).write_text(card.model_copy(update={"name": folder.name}).model_dump_json())


@pytest.fixture(scope="module")
def prepared(login: Login) -> Login:
    """Type the guide's commands up to the experiment."""
    login.type(DATA)
    login.type(WHEELS)
    return login


@dataclass(frozen=True)
class Finished:
    """A run that has ended, and what was printed when it was submitted."""

    folder: RunFolder
    printed: str

    @property
    def results(self) -> pl.DataFrame:
        return pl.read_parquet(self.folder.path / "report" / "results.parquet")

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.path.glob("slurm/*/*.log")))

    def nodes(self) -> set[str]:
        return {status.record.node.host for status in observe(self.folder).statuses if status.record}


def carry_out(login: Login, commands: str, output: Path) -> Finished:
    """Type the command that submits, look at the queue, and wait for the end."""
    start = time.monotonic()
    printed = login.type(commands)
    run = RunFolder.open(output)
    jobs = [job for submitted in submissions(run) for job in submitted.jobs.ids()]
    queued = login.cluster.ask("squeue", "--me", "-h", "-r", "--states=all", "-o", "%i %j").splitlines()
    assert {f"{jobs[0]}_0 compare-models", f"{jobs[0]}_1 compare-models"} <= set(queued)
    assert f"as job {jobs[0]}" in printed
    # A finaliser submits again what failed for want of luck, and another finaliser behind it.
    assert login.cluster.wait_drained(SECONDS)
    print(f"{time.monotonic() - start:.0f} s until the report of {output.name}")
    return Finished(run, printed)


def check_complete(login: Login, run: Finished) -> None:
    """Check records, table, report and what was said to the user."""
    statuses = observe(run.folder).statuses
    assert {status.task.id: str(status.state) for status in statuses} == dict.fromkeys(MODELS, "done"), run.logs()
    for status in statuses:
        assert status.record is not None
        assert status.record.status == "ok"
        assert status.record.node.slurm_job
        # Not the one that submitted: an environment in the job's own folder on its node.
        interpreter = Path(status.record.node.interpreter)
        disk = login.cluster.node_disk(status.record.node.host)
        assert interpreter.is_relative_to(disk), interpreter
    assert set(run.results["model"]) == set(MODELS)
    assert set(run.results["status"]) == {"done"}
    assert "(all)" in set(run.results["dataset"])
    page = (run.folder.path / "report" / "report.html").read_text()
    assert all(name in page for name in MODELS)
    for words in ("fb status", "fb resume", "fb cancel", "fb logs", "squeue --me"):
        assert words in run.printed
    follow = re.search(r"Follow: +(fb status .*?) --watch", run.printed)
    assert follow is not None
    shown = json.loads(
        login.type(f"cd {shlex.quote(str(run.folder.path.parent))}\n{follow[1]} --json").splitlines()[-1]
    )
    assert {row["task"]: row["state"] for row in shown["tasks"]} == dict.fromkeys(MODELS, "done")


def test_the_guides_session_word_for_word(prepared: Login) -> None:
    output = prepared.home / "scratch" / "my_output_folder"
    run = carry_out(prepared, COMPARE, output)
    check_complete(prepared, run)
    assert "Running jobs..." in run.logs()
    for name in ("env", "job_output", "fb_yolo"):
        assert re.search(rf"^{name}$", run.logs(), re.MULTILINE), name
    assert (output / "slurm" / "setup.sh").read_text() == SETUP.read_text()


def test_the_guides_own_setup_template_given_by_its_path(prepared: Login) -> None:
    # ADAPTED: the version, and the home folder that the guide names.
    template = TEMPLATE.replace("0.3.0", flat_bug.__version__).replace("/home/asgersve", "\\$HOME")
    (prepared.home / "my setup.sh").write_text(template)
    commands = COMPARE.replace("slurm_setup=setup.txt", 'slurm_setup="$HOME/my setup.sh"')
    output = prepared.home / "scratch" / "with_template"
    run = carry_out(prepared, commands.replace("my_output_folder", "with_template"), output)
    check_complete(prepared, run)
    assert re.search(r"Current virtual environment \(node \d+\.[01]%2\): \S+/env\n", run.logs())
    assert (output / "slurm" / "setup.sh").read_text() == template


def test_the_same_journey_in_our_commands(login: Login) -> None:
    folder = login.home / "scratch" / FOLDER
    folder.mkdir()
    login.type(OUR_DATA)
    login.type(OUR_WHEELS)
    run = carry_out(login, OUR_COMPARE, folder / "ours")
    check_complete(login, run)
    assert re.search(r"environment: (squashfs|tar), ready in", run.logs())
    places = (login.home, login.cluster.folders.state)
    assert not [path for place in places for path in place.rglob("pwned")]
    # Only what the tasks read was staged.
    parts = {stage.only for task in run.folder.plan.tasks for stage in task.stage}
    assert parts == {("insects/images/val", "insects/labels/val")}


def test_a_variable_that_the_login_shell_emptied_is_recognised_before_anything_is_queued(login: Login) -> None:
    done = login.try_to_type(COMPARE.replace("\\$", "$").replace("my_output_folder", "never"))
    assert done.returncode == 2
    assert "did the shell replace a variable by nothing?" in done.stderr
    assert not (login.home / "scratch" / "never").exists()


def test_a_mistyped_option_names_the_nearest(login: Login) -> None:
    done = login.try_to_type(COMPARE.replace("cpus_per_task", "cpu_per_task").replace("my_output_folder", "never"))
    assert done.returncode == 2
    assert "cpus_per_task" in done.stderr.replace("-", "_")
    assert not (login.home / "scratch" / "never").exists()


def test_more_than_the_cluster_has_is_refused_at_once(login: Login) -> None:
    done = login.try_to_type(COMPARE.replace("gpu:t4:1", "gpu:a100:1").replace("my_output_folder", "never"))
    assert done.returncode == 3
    assert "gres=gpu:a100:1" in done.stderr
    assert not (login.home / "scratch" / "never").exists()


def test_a_setup_that_fails_on_the_node_is_named_as_such_and_the_report_still_comes(login: Login) -> None:
    (login.home / "broken.sh").write_text('srun --ntasks="$SLURM_NNODES" unzip -q "$HOME/nothing.zip"\n')
    commands = COMPARE.replace("setup.txt", '"$HOME/broken.sh" retries=0').replace("my_output_folder", "broken")
    run = carry_out(login, commands, login.home / "scratch" / "broken")
    found = observe(run.folder).statuses
    assert [status.state for status in found] == [TaskState.FAILED] * 2
    assert {status.failure.kind for status in found if status.failure} == {"setup failed"}
    assert all("the script of slurm_setup (exit code" in status.reason for status in found), found
    assert "nothing.zip" in run.logs()
    assert (run.folder.path / "report" / "report.html").exists()
