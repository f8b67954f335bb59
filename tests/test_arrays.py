"""Which jobs a run makes, in which order, and what a refusal of Slurm means; without a Slurm."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flat_bug.cluster.arrays import Part, Taken, first_of, foreseen, of_tasks, parts, submit_parts
from flat_bug.cluster.checks.finding import Case, Finding, Level
from flat_bug.cluster.checks.places import check_inputs
from flat_bug.cluster.checks.visible import ITS_OWN
from flat_bug.cluster.files_of_jobs import settings_of
from flat_bug.cluster.options import parse_slurm
from flat_bug.cluster.preflight import notes
from flat_bug.cluster.profile import ClusterProfile
from flat_bug.cluster.room import lacks_room
from flat_bug.cluster.scheduler import SchedulerError, error_of_text
from flat_bug.cluster.submission import SlurmSettings
from flat_bug.errors import UsageError
from flat_bug.experiments.plan import Plan, Task

POLICY = (
    "Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
)


def settings(*words: str, **profile: object) -> SlurmSettings:
    made = ClusterProfile.from_mapping({"name": "x", **profile})
    return settings_of(parse_slurm(words)).model_copy(update={"profile": made})


def task(name: str, *after: str, call: str = "score-model") -> Task:
    return Task(id=name, call=call, after=after)


def many(count: int) -> tuple[Task, ...]:
    return tuple(task(f"t{number}") for number in range(count))


def submitted(plan: Plan, how: SlurmSettings) -> list[tuple[int, object, object]]:
    """Return number of jobs, name and dependency of what would be submitted."""
    found = foreseen(plan, how)
    return [(len(each.elements), each.options["job-name"], each.options.get("dependency")) for each in found]


class TestWhatIsSubmitted:
    def test_what_comes_after_others_waits_for_all_before_it_and_the_report_for_everything(self):
        plan = Plan(experiment="x", tasks=(task("a"), task("b", call="train-model"), task("last", "a")))
        assert submitted(plan, settings()) == [
            (1, "x", None),
            (1, "x", None),
            (1, "x", "afterany:JOB1:JOB2"),
            (0, "x-report", "afterany:JOB1:JOB2:JOB3"),
        ]

    def test_the_users_own_dependency_stays_and_is_none_of_the_reports(self):
        plan = Plan(experiment="x", tasks=(task("a"), task("last", "a")))
        assert [row[2] for row in submitted(plan, settings("dependency=afterok:7"))] == [
            "afterok:7",
            "afterok:7,afterany:JOB1",
            "afterany:JOB1:JOB2",
        ]

    def test_no_more_than_the_queue_has_room_for(self):
        plan = Plan(experiment="x", tasks=(*many(7), task("last", "t0")))
        assert [row[0] for row in submitted(plan, settings(max_submit_jobs=6, max_array_size=3))] == [3, 2, 0]
        assert [row[0] for row in submitted(plan, settings(max_array_size=3))] == [3, 3, 1, 1, 0]

    @given(st.integers(1, 30), st.integers(1, 7), st.integers(1, 7), st.none() | st.integers(1, 20))
    def test_each_task_is_in_one_job_at_most_and_all_are_where_there_is_room(self, count, each, longest, room):
        how = settings(f"tasks_per_job={each}", max_array_size=longest)
        taken: list[Part] = []

        def take(part: Part, before: object) -> Taken:
            taken.append(part)
            return Taken([f"job-{len(taken)}"], len(part.elements))

        jobs = submit_parts(parts(many(count), how), room, take)
        names = [each.id for part in taken for each in part.tasks]
        assert names == [each.id for each in many(count)][: len(names)]
        assert len(jobs) == len(taken)
        assert all(len(part.elements) <= longest for part in taken)
        assert len(names) == (count if room is None else min(count, room * each))

    def test_behind_a_part_that_found_no_room_nothing_is_submitted(self):
        asked: list[int] = []

        def take(part: Part, before: object) -> Taken:
            asked.append(len(part.elements))
            return Taken(["1"], 2)

        assert submit_parts(parts((*many(5), task("last", "t0")), settings()), None, take) == ["1"]
        assert asked == [5]

    def test_a_submission_that_is_cut_short_knows_nothing_of_the_rest(self):
        (part,) = next(parts(many(4), settings("tasks_per_job=2")))
        whole = of_tasks(part, settings(), "x", 1, ()).model_copy(update={"first_attempts": {"t0": 1, "t3": 2}})
        cut = first_of(whole, 1)
        assert (cut.elements, cut.first_attempts) == ((("t0", "t1"),), {"t0": 1})
        assert (cut.token, cut.number) == (whole.token, whole.number)


class TestWhatARefusalMeans:
    @pytest.mark.parametrize(
        ("said", "is_for_now"),
        [
            (f"sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: {POLICY}", True),
            (f"sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: {POLICY}", True),
            (f"sbatch: error: AssocGrpSubmitJobsLimit\nsbatch: error: {POLICY}", True),
            ("sbatch: error: Reached maximum number of jobs", True),
            (f"sbatch: error: AssocMaxWallDurationPerJobLimit\nsbatch: error: {POLICY}", False),
            (f"sbatch: error: QOSMaxGRESPerUser\nsbatch: error: {POLICY}", False),
            ("sbatch: error: Batch job submission failed: Requested node configuration is not available", False),
        ],
    )
    def test_a_limit_that_is_named(self, said, is_for_now):
        assert lacks_room(error_of_text("sbatch", said), settings(), 1) == is_for_now

    def test_a_limit_that_nobody_names_is_no_full_queue_where_nobody_can_count(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        error = error_of_text("sbatch", f"sbatch: error: {POLICY}")
        assert isinstance(error, SchedulerError)
        assert not lacks_room(error, settings(max_submit_jobs=1), 1)


class TestBeforeASubmission:
    def findings(self, *words: str, **args: str):
        made = Task(id="one", call="score-model", args=dict(args), inputs=tuple(args))
        return list(check_inputs(Case(settings(*words), (made,), is_quick=True)))

    def test_a_folder_of_the_node_is_not_looked_for_here(self, tmp_path: Path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "setup.sh").touch()
        (found,) = self.findings("slurm_setup=setup.sh", images="$SLURM_TMPDIR/images")
        assert found.level is Level.GREEN

    def test_what_may_work_is_a_note(self, tmp_path: Path):
        (tmp_path / "a.onnx").touch()
        (found,) = self.findings(weights=str(tmp_path / "a.onnx"))
        assert found.level is Level.YELLOW
        assert "lies in /tmp, which each machine has for itself" in found.note
        (found,) = self.findings(weights="/nowhere/a.onnx")  # as --soft allows
        assert (found.level, "it is not there" in found.note) == (Level.YELLOW, True)

    def test_what_only_this_machine_may_see_is_one_note(self):
        hidden = [Finding(name, Level.YELLOW, f"x lies in /tmp, {ITS_OWN}", "Move it.") for name in ("weights", "card")]
        other = Finding("time", Level.YELLOW, "it is short", "Give more.")
        assert list(notes([*hidden, other])) == [
            "time: it is short. Give more.",
            f"weights, card: in a temporary folder, {ITS_OWN}; fine only where the nodes are this machine",
        ]

    def test_another_cluster_than_the_one_of_this_login_node_is_refused(self):
        for word in ("clusters=other", "M=other"):
            with pytest.raises(UsageError, match="clusters is not for you to set") as caught:
                parse_slurm([word])
            assert "Log in to that cluster" in caught.value.mend
