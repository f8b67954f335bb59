"""The command line as a whole: it starts without heavy parts, and every command tells how it is used."""

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from cyclopts import App

from flat_bug.cli._support import print_table, run
from flat_bug.cli.main import COMMANDS, build_app

HEAVY = ("torch", "ultralytics", "onnxruntime", "matplotlib", "polars", "shapely")


@pytest.mark.parametrize("words", [[], ["--help"], ["data", "--help"], ["--version"]])
def test_the_list_of_commands_needs_no_heavy_part(words: list[str]) -> None:
    code = (
        "import sys, flat_bug\n"
        "from flat_bug.cli._support import run\n"
        "from flat_bug.cli.main import build_app\n"
        f"code = run(build_app({words}), {words})\n"
        f"print('heavy', sorted(set(sys.modules) & set({HEAVY})), code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("heavy [] 0")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*command.split(), "--help"]
    assert run(build_app(words), words) == 0
    assert f"Example: fb {command}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("predict", "--input or -i is missing"),
        ("data prepare --input x --ouput y", "is missing; did you mean it by --ouput?"),
        ("run compare-models -o c time=5 --slurm", "Options of sbatch stand behind --slurm."),
        ("run compare-models -o c --slurm -n 2", "only long names are understood: ntasks=2 for -n 2"),
        ("rehearse fb run compare-models -a x", "Put -- before the command that is rehearsed."),
    ],
)
def test_what_is_wrong_comes_with_what_to_do(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(build_app(line.split()), line.split()) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("option", ["-i", "--output"])
def test_a_variable_of_the_shell_that_is_not_set_does_not_mean_this_folder(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", "-i", "scans", "-o", "out", option, ""]
    assert run(build_app(words), words) == 2
    said = ["fb: a word of the command is empty", f"    {option}", "    Maybe a variable of the shell is not set."]
    assert capsys.readouterr().err.splitlines() == said


@pytest.mark.parametrize("words", [["fly"], ["predict", "--wings", "4"], ["data", "prepare"], ["run", "marathon"]])
def test_wrong_usage_is_said_briefly(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(build_app(words), words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert 1 < len(lines) <= 3
    assert "--help" in lines[-1]


def test_what_looks_like_markup_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(pl.DataFrame({"image": ["[bold]moth.jpg"], "reason [x]": ["not [/b] here"]}), "runs/[red]1")
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("[bold]moth.jpg", "reason [x]", "not [/b] here", "runs/[red]1"))


PRINT = "from cyclopts import App; from flat_bug.cli._support import run; app = App(); app.default(lambda: print(1))"


@pytest.mark.parametrize(
    "code", ["from flat_bug.cli.main import main; main(['--help'])", f"{PRINT}; exit(run(app, []))"]
)
def test_a_reader_that_has_seen_enough_is_no_error(code: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_is_no_error(closed: str, tmp_path: Path) -> None:
    """Nor does what is printed get into a file that is opened instead."""
    file = tmp_path / "file"
    code = f"stream = open({str(file)!r}, 'w')\n{PRINT}\nexit(run(app, []))"
    done = subprocess.run(["/bin/sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code], check=False)
    assert done.returncode == 0
    assert file.read_text() == ""


def test_what_a_terminal_cannot_show_is_printed_as_escapes() -> None:
    code = "from flat_bug.cli._support import *\nrun(App(default_command=lambda: print('\u00fc.png')), [])"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("\\xfc.png\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_that_is_full_is_told_of_without_a_traceback() -> None:
    code = "from flat_bug.cli.main import main; main(['--help'])"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "fb: the system says: No space left on device",
        "    Free some space, then run the same command again.",
    ]


def test_what_the_system_refuses_is_told_of_with_its_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    app = App(name="fb")

    @app.command
    def look() -> None:
        (tmp_path / "absent").read_text()

    assert run(app, ["look"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["fb: the system says: No such file or directory", f"    {tmp_path / 'absent'}"]
    assert len(lines) == 3
