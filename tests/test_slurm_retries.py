"""How often a run on a real Slurm tries by itself what had bad luck, and where."""

from pathlib import Path

import pytest
from tests.slurm_runs import Place, fb, task

from flat_bug.cluster.rehearsal.local_slurm import LocalSlurm
from flat_bug.cluster.submission import submissions
from flat_bug.experiments.record import read_record


@pytest.mark.slurm
@pytest.mark.slow
def test_a_task_that_dies_each_time_is_tried_again_as_often_as_allowed_each_time_on_another_node(
    slurm: LocalSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dies = task("dies", kill="run_task", always=True)
    run = Place(slurm, tmp_path, monkeypatch).submit([dies, task("later", after=("dies",)), task("fine")], "retries=1")
    run.wait_until_ended()
    assert run.kinds() == {"dies": "killed", "later": "missing part"}, run.report()
    records = [read_record(attempt) for attempt in run.attempts("dies")]
    assert [record.failure.kind for record in records if record and record.failure] == ["killed"] * 2
    assert len({record.node.host for record in records if record}) == 2
    assert [
        found.submission.automatic for found in submissions(run.folder) if found.submission.index_of("dies") == 0
    ] == [False, True]
    # The report is there all the same, and a person may ask for one more attempt, which is no licence for others.
    assert (run.path / "report" / "report.html").exists(), run.report()
    assert fb("resume", str(run.path)).returncode == 0
    run.wait_until_ended()
    assert [len(run.attempts(name)) for name in ("dies", "fine")] == [3, 1], run.report()
