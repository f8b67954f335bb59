"""The command line as a whole: it starts without heavy parts, and every command tells how it is used."""

import subprocess
import sys

import pytest

from flat_bug.cli._support import run
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


@pytest.mark.parametrize("words", [["fly"], ["predict", "--wings", "4"], ["data", "prepare"], ["run", "marathon"]])
def test_wrong_usage_is_said_briefly(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(build_app(words), words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert 1 < len(lines) <= 3
    assert "--help" in lines[-1]
