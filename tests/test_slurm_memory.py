"""How it is told that a task needed more memory than its job had, from what the kernel and Slurm leave behind.

That a real Slurm leaves just this is in ``test_slurm_faults.py``.
"""

from pathlib import Path

import pytest

from flat_bug.cluster.job import killed_for_memory
from flat_bug.cluster.states import sign_in_log

EVENTS = "low 0\nhigh 3\nmax 12\noom 2\noom_kill {count}\n"
CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill {count}\n"
OF_JOB = "slurm/uid_0/job_7/step_batch/task_0"

ENDED = "slurmstepd: error: *** JOB 3 ON node1 CANCELLED AT 2026-11-25T01:13:39 ***\n"
TOO_LATE = "slurmstepd: error: *** JOB 3 ON node1 CANCELLED AT 2026-11-25T01:13:39 DUE TO TIME LIMIT ***\n"
POLLED = "slurmstepd: error: StepId=3.batch exceeded memory limit (493178880 > 209715200), being killed\n"
POLLED += "slurmstepd: error: Exceeded job memory limit\n"
KERNEL = "slurmstepd: error: Detected 1 oom_kill event in StepId=3.batch. Some of the step tasks have been killed.\n"


class TestWhatTheKernelCounts:
    """The worker's supervisor counts before and after, so all that matters is the number."""

    def test_of_the_one_tree_of_control_groups(self, tmp_path: Path) -> None:
        assert count(tmp_path, f"0::/{OF_JOB}\n", {f"{OF_JOB}/memory.events": EVENTS.format(count=1)}) == 1

    def test_of_the_older_tree_for_memory(self, tmp_path: Path) -> None:
        groups = f"9:cpu,cpuacct:/elsewhere\n4:memory:/{OF_JOB}\n0::/\n"
        files = {f"memory/{OF_JOB}/memory.oom_control": CONTROL.format(count=2)}
        # What other trees count, and other jobs, is not this job's.
        files |= {"memory/elsewhere/memory.oom_control": CONTROL.format(count=5)}
        files |= {"memory/slurm/uid_0/job_8/memory.oom_control": CONTROL.format(count=5)}
        assert count(tmp_path, groups, files) == 2

    @pytest.mark.parametrize("groups", ["", "0::/gone\n", "4:memory:/gone\n", "nonsense\n"])
    def test_nothing_where_nothing_is_told(self, tmp_path: Path, groups: str) -> None:
        assert count(tmp_path, groups, {}) == 0

    def test_nothing_where_it_does_not_count_kills(self, tmp_path: Path) -> None:
        files = {f"memory/{OF_JOB}/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\n"}
        assert count(tmp_path, f"4:memory:/{OF_JOB}\n", files) == 0

    def test_on_this_machine(self) -> None:
        assert killed_for_memory() >= 0


def count(folder: Path, groups: str, files: dict[str, str]) -> int:
    """Return the number of kills where a process is in some control groups, and these are their files."""
    of_process, tree = folder / "cgroup", folder / "tree"
    of_process.write_text(groups)
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    return killed_for_memory(of_process, tree)


class TestWhatSlurmPrints:
    @pytest.mark.parametrize(
        ("text", "kind"),
        [
            (POLLED, "out of memory"),
            (KERNEL, "out of memory"),
            (POLLED + ENDED + POLLED, "out of memory"),
            # It ends the job as scancel would; the reason stands before.
            (POLLED + ENDED, "out of memory"),
            (KERNEL + ENDED, "out of memory"),
            (ENDED, "cancelled"),
            # A job that was queued again goes on in the same log.
            (POLLED + ENDED + "a: begins\n" + ENDED, "cancelled"),
            (POLLED + "a: begins\n" + TOO_LATE, "time limit"),
            ("the task says that it is done\n", None),
        ],
    )
    def test_the_last_word_counts(self, tmp_path: Path, text: str, kind: str | None) -> None:
        log = tmp_path / "3.log"
        log.write_text("environment: submitting-python\na: begins\n" + text)
        assert sign_in_log(log) == kind
