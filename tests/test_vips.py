"""libvips calls no Python when it has something to say: a message within a message would end the process."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

SCRIPT = """
import gc, logging, sys
logging.basicConfig(level=logging.INFO)
from flat_bug.vips import pyvips
logging.info("read")
gc.set_threshold(1)
for _ in range(20):
    try:
        pyvips.Image.new_from_source(pyvips.Source.new_from_file(sys.argv[1]), "", fail_on="none").write_to_memory()
    except pyvips.Error as error:
        print(error.message)
"""


def test_damage_is_an_error_or_nothing_and_never_a_message(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.jpg", tmp_path / "cut.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 140, 3)).astype(np.uint8)).save(whole)
    path.write_bytes(whole.read_bytes()[:-2000])
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(path)], capture_output=True, text=True, check=True)
    said = done.stderr[done.stderr.index("INFO:root:read\n") :]
    assert said == "INFO:root:read\n"
