"""The end of a job for want of memory, which Slurm has no command for."""

import os
import subprocess
import sys
from collections.abc import Mapping

from flat_bug.cluster.rehearsal.parts import find_library
from flat_bug.errors import MissingPartError, UsageError

LIBRARY = "libslurmfull.so"
SIGNAL_OUT_OF_MEMORY = 253
"""What Slurm's own processes report, as if it were a signal, when the kernel has killed one for its memory."""

# In a process of its own, since the library reads the configuration once.
_COMPLETE_JOB = """
import ctypes, sys
slurm = ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)
slurm.slurm_init(None)
sys.exit(1 if slurm.slurm_complete_job(ctypes.c_uint32(int(sys.argv[2])), ctypes.c_uint32(int(sys.argv[3]))) else 0)
"""


def end_out_of_memory(job: str, environment: Mapping[str, str]) -> None:
    """End a running job as one that ran out of memory: state OUT_OF_MEMORY, exit code 0:125.

    Slurm itself says so only with cgroups, which a throw-away cluster leaves alone; but the controller takes the
    verdict through its programming interface, too.

    Args:
        job: The job's own number.
        environment: Where the cluster is.

    Raises:
        MissingPartError: Slurm's library is not found.
        UsageError: The job is not running.
    """
    library = find_library(LIBRARY)
    if library is None:
        raise MissingPartError(f"{LIBRARY} is not found", mend="Install slurm-wlm-basic-plugins.")
    command = [sys.executable, "-c", _COMPLETE_JOB, str(library), job, str(SIGNAL_OUT_OF_MEMORY)]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UsageError(f"the job is not running {done.stderr.strip()}".strip(), where=job)
