"""Hostile values through every option, and through the contents of files, up to a real Slurm: nothing of them runs.

Whatever would run makes a file called ``pwned``.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.test_compare_models_run import ANIMAL, make_network, make_place

from flat_bug.cli._support import run as run_app
from flat_bug.cli.main import build_app
from flat_bug.cluster.batch_script import batch_script
from flat_bug.cluster.bootstrap import bootstrap_script
from flat_bug.cluster.observe import observe
from flat_bug.cluster.options import parse_slurm
from flat_bug.cluster.profile import ClusterProfile, load_profile
from flat_bug.cluster.rehearsal.local_slurm import LocalSlurm
from flat_bug.cluster.rehearsal.shape import ClusterShape
from flat_bug.cluster.submission import Submission
from flat_bug.datasets.archive import pack
from flat_bug.errors import ConfigError, FlatBugError
from flat_bug.experiments.run_folder import RunFolder
from flat_bug.segmenters.base import card_path

CHECKOUT = Path(__file__).parents[1]
VALUES = (
    "$(touch pwned)",
    "`touch pwned`",
    ";touch pwned",
    "'\"",
    '"; touch pwned #',
    "x\ntouch pwned\n",
    "--wrap=touch pwned",
    "%A",
    "\\",
    "a b",
    "ключ 🐝",
    "-rf",
    "*",
    "$HOME",
    "|touch pwned",
    "&touch pwned&",
    "{touch,pwned}",
    "!touch",
    "$'\\ntouch pwned'",
    "\x1b]0;x\x07",
)
IN_HEADERS = tuple(value for value in VALUES if value.isprintable())
NAMES = tuple(value for value in VALUES if "\n" not in value)
SMALL = ("cpus_per_task=1", "mem=300M", "time=00:10:00")
SECONDS = 240
PATH_OPTIONS = ("-i", "-g", "--tmp", "-d", "--config", "-a", "-o", "-w")
TEXT_OPTIONS = ("--input-pattern", "--weight-pattern", "--device")
PLAIN = {"-i": "images", "-g": "truth.json", "-d": "models/*", "-o": "run"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand in a folder with images and a model; at the end nothing may have run, there or in the home folder."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.chdir(make_place(tmp_path))
    yield tmp_path
    assert pwned(tmp_path) == []


def pwned(*folders: Path) -> list[Path]:
    """Return the folders in which a value that was run has made its file; also looked for where commands start."""
    found = [top for folder in folders for top, inner, files in os.walk(folder) if "pwned" in {*inner, *files}]
    places = (CHECKOUT, Path.cwd(), Path("/"), Path(tempfile.gettempdir()))
    return [*map(Path, found), *(place for place in places if (place / "pwned").exists())]


def compare(*words: str) -> int:
    return run_app(build_app(), ["run", "compare-models", *words])


def with_value(option: str, value: str, form: str) -> list[str]:
    """Return a command line in which one option has a value, the others being as they should."""
    options = {**PLAIN, option: value}
    if option == "-a":
        del options["-i"], options["-g"]
    words = [word for name, text in options.items() if name != option for word in (name, text)]
    long = {"-i": "--input", "-g": "--ground-truth", "-d": "--directory", "-a": "--archive", "-o": "--output"}
    long["-w"] = "--weights"
    return [*words, f"{long.get(option, option)}={value}"] if form == "=" else [*words, option, value]


# Every option of the command


def is_refused(option: str, value: str) -> bool:
    """Return whether a value means something else than a name, or cannot be one."""
    if option == "--weight-pattern":
        return value != "|touch pwned"  # the others match no name, or are no pattern
    if option == "-o":
        return "%" in value or "\\" in value
    return value == "$HOME" and option in {"-d", "-a", "-w", "--config"}


def make_what_is_named(option: str, value: str) -> str:
    """Make what the value of an option names, so that nothing is refused for being absent; return the value then."""
    if option in {"-i", "-d"}:
        shutil.copytree({"-i": "images", "-d": "models/good"}[option], value)
    elif option == "-g":
        shutil.copyfile("truth.json", value)
    elif option == "--config":
        Path(value).write_text("score_threshold: 0.5\n")
    elif option == "-w":
        weights = Path("models/good/weights/best.onnx")
        shutil.copyfile(weights, f"{value}.onnx")
        shutil.copyfile(card_path(weights), card_path(Path(f"{value}.onnx")))
        return f"called={value}.onnx"  # what is before the first = is the name
    elif option == "-a":
        labels = Path("tree/insects/labels/val")
        labels.mkdir(parents=True)
        shutil.copyfile("truth.json", labels / "instances_default.json")
        shutil.copytree("images", "tree/insects/images/val")
        pack(Path("tree"), Path(f"{value}.zip"))
        return f"{value}.zip"
    return value


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("option", [*PATH_OPTIONS, *TEXT_OPTIONS])
@pytest.mark.usefixtures("place")
def test_what_would_be_submitted_does_not_depend_on_the_value_of_an_option(
    option: str, value: str, harmless: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*with_value(option, make_what_is_named(option, value), "="), "--soft", "--dry-run", "--slurm", *SMALL]
    code = compare(*words)
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    if is_refused(option, value):
        assert code == 2
        assert printed.err
        return
    assert code == 0, printed.err
    assert scripts_in(printed.out) == harmless


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return what sbatch would be given where every name is a plain one."""
    folder = make_place(tmp_path_factory.mktemp("harmless"))
    words = [f"{name}={folder / text}" for name, text in PLAIN.items()]
    code = "from flat_bug.cli.main import main; main()"
    command = [sys.executable, "-c", code, "run", "compare-models", *words, "--dry-run", "--slurm", *SMALL]
    return scripts_in(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def scripts_in(printed: str) -> str:
    """Return what a dry run says that sbatch is given, bootstrap.sh included."""
    before, title, scripts = printed.partition("# ---- what sbatch is given ----\n")
    assert before
    assert title
    return scripts


@pytest.mark.slow
@pytest.mark.parametrize("option", ["-d", "-c", "-o", "--name"])
@pytest.mark.usefixtures("place")
def test_what_a_training_would_submit_does_not_depend_on_the_value_of_an_option(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    of_node = "$SLURM_TMPDIR/tree"
    assert train_dry(f"-d={of_node}", "-o=other") == 0
    harmless = scripts_in(capsys.readouterr().out)
    for value in VALUES:
        Path(value).write_text("epochs: 3\n")
        made = {"-d": f"{of_node} {value}", "-o": f"runs/{value}", "--name": f"my {value}"}.get(option, value)
        words = {"-d": of_node, "-o": "run", option: made}
        code = train_dry(*(f"{name}={text}" for name, text in words.items()))
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        if code:
            # Settings are YAML, which has no such characters.
            assert is_refused(option, value) or (option == "--name" and not value.isprintable()), printed.err
        else:
            assert scripts_in(printed.out) == harmless, value


def train_dry(*words: str) -> int:
    return run_app(build_app(), ["train", *words, "--dry-run", "--slurm", *SMALL])


@pytest.mark.parametrize("value", NAMES)
@pytest.mark.usefixtures("place")
def test_a_value_arrives_in_the_plan_as_it_was_given(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree("models/good", Path("models", value))
    words = ["-i", f"$SLURM_TMPDIR/{value}", "-g", f"$SLURM_TMPDIR/{value}.json", "--tmp", f"$SLURM_TMPDIR/{value}/t"]
    # A star matches all models; a variable of the allow-list is one, so a folder that is called so needs the star.
    directory = "models/*" if value in {"*", "$HOME"} else f"models/{value}"
    words += [f"--directory={directory}", "-o", "run", "--soft", "--dry-run", "--json"]
    assert compare(*words, "--slurm", *SMALL) == 0
    output = capsys.readouterr().out
    [line] = [line for line in output.splitlines() if line.startswith("{")]
    tasks = json.loads(line)["plan"]["tasks"]
    assert all(task["args"]["images"] == f"$SLURM_TMPDIR/{value}" for task in tasks)
    assert all(task["args"]["ground_truth"] == f"$SLURM_TMPDIR/{value}.json" for task in tasks)
    assert value in {task["args"]["model"] for task in tasks}
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", task["id"]) for task in tasks)


# Options of sbatch and of the profile


@pytest.mark.slow
@pytest.mark.parametrize("word", ["profile", "environment", "slurm_setup", "max_parallel", "tasks_per_job", "retries"])
@pytest.mark.usefixtures("place")
def test_words_of_ours_lead_to_no_such_thing(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    for value in VALUES:
        assert compare(*with_value("-o", "run", " "), "--dry-run", "--slurm", f"{word}={value}") == 2, value
        said = capsys.readouterr()
        assert said.out == ""
        assert "\x1b" not in said.err


@pytest.mark.parametrize("command", ["status", "logs", "cancel", "resume", "report"])
@pytest.mark.usefixtures("place")
def test_commands_for_a_run_take_its_name_as_it_is(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    for value in VALUES:
        assert run_app(build_app(), [command, f"./{value}"]) == 2, value
        assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["comment", "job-name", "account", "constraint", "gres", "partition", "mail-user"])
@pytest.mark.parametrize("value", VALUES)
def test_a_header_holds_the_value_in_one_comment_or_it_is_refused(name: str, value: str) -> None:
    try:
        options = parse_slurm([f"{name}={value}"]).options
    except FlatBugError:
        assert not value.isprintable()
        return
    check_script(batch_script(Submission(number=1, purpose="tasks", elements=(("a",),), options=options)))


@given(st.dictionaries(st.sampled_from(["comment", "job-name", "account", "constraint", "qos"]), st.text()))
def test_no_text_makes_a_second_command(given_options: dict[str, str]) -> None:
    try:
        options = parse_slurm([f"{name}={value}" for name, value in given_options.items()]).options
    except FlatBugError:
        return
    check_script(batch_script(Submission(number=1, purpose="tasks", elements=(("a",),), options=options)))


def check_script(script: str) -> None:
    """Check that bash sees one command in a script, and that it is ours."""
    first, *header, empty, command, end = script.split("\n")
    assert first == "#!/bin/bash"
    assert all(re.match(r"#SBATCH --[a-z-]+(=|$)", line) for line in header)
    assert (empty, end) == ("", "")
    assert command == 'exec /bin/bash bootstrap.sh 1 "$SLURM_ARRAY_TASK_ID"'


@example("0\x85", "modules")
@given(
    st.text(min_size=1),
    st.sampled_from(["modules", "python", "node_folders", "name", "description", "scratch", "environment", "accounts"]),
)
def test_a_profile_brings_nothing_into_bootstrap_but_plain_words(text: str, key: str) -> None:
    several = key in {"modules", "node_folders", "accounts"}
    try:
        profile = ClusterProfile.from_mapping({"name": "x", key: [text] if several else text})
    except ConfigError:
        return
    script = bootstrap_script(profile)
    if key in {"modules", "python", "node_folders"}:
        kept = getattr(profile, key)
        # Settings drop white space at both ends, and str.strip() counts U+0085 and U+001C as such.
        assert (kept[0] if several else kept) == text.strip()
        assert re.fullmatch(r"[A-Za-z0-9._/+:@-]+", text.strip())
        done = subprocess.run(["/bin/bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
    else:
        assert script == bootstrap_script(ClusterProfile(name="y"))


@pytest.mark.slurm
@pytest.mark.parametrize("option", ["comment", "job-name"])
def test_the_real_sbatch_hands_back_exactly_the_value(option: str, slurm: LocalSlurm, tmp_path: Path) -> None:
    for value in IN_HEADERS:
        assert of_slurm(slurm, tmp_path, option, value) == value


@pytest.mark.slurm
def test_the_real_sbatch_takes_the_account_for_what_it_is(
    make_slurm: Callable[[ClusterShape], LocalSlurm], tmp_path: Path
) -> None:
    # With a database of accounts, one that does not exist becomes the default one.
    cluster = make_slurm(ClusterShape(nodes=1, accounting=False))
    for value in IN_HEADERS:
        assert of_slurm(cluster, tmp_path, "account", value) == value.lower()


@pytest.mark.slurm
@pytest.mark.slow
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(value=st.text(min_size=1, max_size=60))
def test_the_real_sbatch_hands_back_any_text_that_is_not_refused(value: str, slurm: LocalSlurm, tmp_path: Path) -> None:
    try:
        parse_slurm([f"comment={value}"])
    except FlatBugError:
        return
    assert of_slurm(slurm, tmp_path, "comment", value) == value


def of_slurm(slurm: LocalSlurm, folder: Path, option: str, value: str) -> str:
    """Submit a job whose option has a value, and return what Slurm takes it for."""
    options = {**parse_slurm([f"{option}={value}"]).options, "hold": True}
    script = batch_script(Submission(number=1, purpose="tasks", elements=(("a",),), options=options, is_array=False))
    file = folder / "script.sh"
    file.write_text(script)
    job = slurm.ask("sbatch", "--parsable", f"--chdir={folder}", str(file)).strip()
    shown = slurm.ask("scontrol", "show", "job", job)
    slurm.ask("scancel", job)
    patterns = {"account": r" Account=(.*) QOS=", "job-name": r"JobName=(.*)\n"}
    found = re.search(patterns.get(option, r"\n   Comment=(.*) flat-bug:[0-9a-f]{16} ?\n"), shown)
    assert found is not None, shown
    return found[1]


# Whole runs on a real Slurm


@pytest.fixture
def cluster(slurm: LocalSlurm) -> Iterator[LocalSlurm]:
    yield slurm
    assert pwned(slurm.folders.state) == []


def submit_and_wait(cluster: LocalSlurm, output: Path, *words: str) -> dict[str, str]:
    """Submit as a user does, wait, and return task → state."""
    command = [sys.executable, str(CHECKOUT / "scripts" / "experiments" / "compare_models.py"), f"--output={output}"]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert cluster.wait_drained(SECONDS)
    run = RunFolder.open(output)
    logs = "\n".join(log.read_text() for log in output.glob("slurm/*/*.log"))
    assert (output / "report" / "report.html").exists(), logs
    for script in output.glob("slurm/submission-*/*.sh"):
        assert "pwned" not in "".join(line for line in script.open() if not line.startswith("#SBATCH"))
    return {status.task.id: str(status.state) + status.reason for status in observe(run).statuses}


def profile_asking_for_little(folder: Path) -> str:
    path = folder / "profile.yaml"
    small = {"cpus_per_task": 1, "mem": "300M", "time": "00:10:00"}
    path.write_text(json.dumps({"name": "test", "resources": {"all": small, "finalise": small}}))
    return str(path)


@pytest.mark.slurm
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["a b $(touch pwned) '\"", "`touch pwned`;touch pwned |x", "x\ntouch pwned\n", "--wrap=touch pwned"]
)
def test_a_run_whose_every_name_is_hostile_ends_with_the_right_names(
    name: str, place: Path, cluster: LocalSlurm
) -> None:
    world = place / f"world {name}"
    world.mkdir()
    for path in ("images", "truth.json", "models"):
        (place / path).rename(world / path)
    (world / "config.yaml").write_text("score_threshold: 0.5\n")
    (world / "config.yaml").rename(world / f"{name}.yaml")
    dataset, image = f"dataset {name}", f"{name}.png"
    (world / "images" / "forest_1.png").rename(world / "images" / image)
    document = json.loads((world / "truth.json").read_text())
    document["images"][0] |= {"file_name": image, "dataset": dataset}
    document["categories"][0]["name"] = name
    (world / "truth.json").write_text(json.dumps(document))
    (world / "models" / "good").rename(world / "models" / name)
    weights = world / "models" / name / "weights" / "best.onnx"
    output = place / "runs" / name / name
    words = [f"--input={world}/images", f"--ground-truth={world}/truth.json", f"--config={world}/{name}.yaml"]
    called = f"other {name}".replace("=", " ")  # what is before the first = is the name
    words += [f"--tmp=$SLURM_TMPDIR/{name}", "--input-pattern=.*", f"--weights={called}={weights}", "--store-all"]
    words += ["--slurm", f"profile={profile_asking_for_little(place)}"]
    # The throw-away cluster charges any account.
    words += [f"comment={name}", f"job-name={name}", f"account={name}"] if name.isprintable() else []
    states = submit_and_wait(cluster, output, *words)
    assert list(states.values()) == ["done"], states
    import polars as pl

    table = pl.read_parquet(output / "report" / "results.parquet")
    assert set(table["model"]) == {called}
    assert {dataset, "meadow", "(all)"} == set(table["dataset"])


@pytest.mark.slurm
@pytest.mark.parametrize("name", ["%A", "50%", "\\", "%%"])
def test_a_run_folder_whose_name_slurm_would_change_is_refused(
    name: str, place: Path, slurm: LocalSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    output = place / name / "run"
    words = [*with_value("-o", str(output), " "), "--slurm", f"profile={profile_asking_for_little(place)}"]
    assert compare(*words) == 2
    assert "Choose a folder without these characters" in capsys.readouterr().err
    assert not output.exists(), "the same folder could not be named again once it is mended"
    assert slurm.drained()


@pytest.mark.slurm
@pytest.mark.slow
def test_an_archive_full_of_hostile_names_is_staged_and_scored(place: Path, cluster: LocalSlurm) -> None:
    top = place / "tree $(touch pwned) '\""
    images, labels = top / "insects" / "images" / "val", top / "insects" / "labels" / "val"
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    document = json.loads((place / "truth.json").read_text())
    entry, annotation = document["images"][0], document["annotations"][0]
    document["images"], document["annotations"] = [], []
    for number, value in enumerate(NAMES_IN_ARCHIVES, start=1):
        name = f"{value}.png"
        shutil.copyfile(place / "images" / "forest_1.png", images / name)
        document["images"].append({**entry, "id": number, "file_name": name, "dataset": value})
        document["annotations"].append({**annotation, "id": number, "image_id": number})
    (labels / "instances_default.json").write_text(json.dumps(document))
    archive = place / "`touch pwned` %A.zip"
    pack(top, archive)
    words = ["-a", str(archive), "-d", "models/*", "--slurm", f"profile={profile_asking_for_little(place)}"]
    states = submit_and_wait(cluster, place / "run", *words)
    assert states == {"good": "done"}
    import polars as pl

    table = pl.read_parquet(place / "run" / "report" / "results.parquet")
    assert set(table["dataset"]) == {"(all)", *NAMES_IN_ARCHIVES}


# A backslash, a control character and the like are no names in a zip that is opened everywhere.
NAMES_IN_ARCHIVES = tuple(value for value in IN_HEADERS if "\\" not in value and value != "*")


@pytest.mark.slurm
@pytest.mark.slow
def test_hostile_text_in_a_record_and_in_weights_is_shown_and_not_run(place: Path, cluster: LocalSlurm) -> None:
    make_network(place / "models" / "$(touch pwned)" / "weights" / "best.onnx", ANIMAL)
    (place / "models" / "$(touch pwned)" / "weights" / "best.onnx").write_bytes(b"$(touch pwned)\n`touch pwned`")
    words = ["-i", "images", "-g", "truth.json", "-d", "models/*"]
    states = submit_and_wait(cluster, place / "run", *words, "--slurm", f"profile={profile_asking_for_little(place)}")
    assert sorted(state.partition("bad input")[0] for state in states.values())[0] == "done"
    assert any("bad input" in state for state in states.values())


@pytest.mark.usefixtures("place")
def test_a_setup_script_is_found_by_a_hostile_name(capsys: pytest.CaptureFixture[str]) -> None:
    name = "setup $(touch pwned) '\";touch pwned.sh"
    Path(name).write_text("true\n")
    words = [*with_value("-o", "run", " "), "--dry-run", "--slurm", *SMALL, f"slurm_setup={name}"]
    assert compare(*words) == 0
    assert bootstrap_script(load_profile("generic"), has_setup=True) in capsys.readouterr().out
