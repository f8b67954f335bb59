"""A plan is plain JSON that is checked as a whole before anything runs."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from flat_bug.errors import RunError
from flat_bug.experiments.plan import Plan, Task, read_plan, read_task
from flat_bug.experiments.registry import CALLS, check_calls, load_call


def plan_of(*tasks: Task) -> Plan:
    return Plan(experiment="test", tasks=tasks)


def task(name: str, *after: str) -> Task:
    return Task(id=name, call="score-model", after=after)


def test_a_plan_comes_back_from_json_as_it_was(tmp_path: Path) -> None:
    first = Task(
        id="a", call="score-model", args={"weights": "a.onnx", "more": [1, None, {"x": 0.5}]}, inputs=("weights",)
    )
    plan = Plan(experiment="test", command=("fb", "run"), digests={"a.onnx": "00"}, tasks=(first, task("b", "a")))
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    assert read_plan(tmp_path / "plan.json") == plan
    assert first.input_paths() == {"weights": "a.onnx"}


@settings(deadline=None)
@given(st.dictionaries(st.text(), st.text() | st.integers() | st.booleans() | st.none()))
def test_values_of_arguments_are_literal_text(args: dict[str, Any]) -> None:
    made = Task(id="a", call="score-model", args=args)
    assert Task.model_validate_json(made.model_dump_json()).args == args


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ((task("a"), task("a")), "'a' occurs twice"),
        ((task("a"), task("A")), "'a' occurs twice"),
        ((task("a", "b"),), "after 'b', which is not in the plan"),
        ((task("a", "a"),), "wait for each other"),
        ((task("a", "c"), task("b", "a"), task("c", "b")), "wait for each other: .* → .*"),
    ],
)
def test_tasks_that_do_not_fit_together_are_refused(tasks: tuple[Task, ...], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        plan_of(*tasks)


@pytest.mark.parametrize("name", ["", "../x", "a/b", "-rf", ".hidden", "a b", "a\n", "é", "$(id)", "x" * 101])
def test_an_id_that_would_need_quoting_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="id"):
        task(name)


def test_an_input_is_the_name_of_an_argument() -> None:
    with pytest.raises(ValidationError, match="'weights' is not the name"):
        Task(id="a", call="score-model", inputs=("weights",))
    with pytest.raises(ValidationError, match="'number' is not the name"):
        Task(id="a", call="score-model", args={"number": 3}, inputs=("number",))


def test_a_task_can_only_call_what_is_registered() -> None:
    with pytest.raises(RunError, match=r"(?s)unknown call 'os.system'.*task a.*Known: .*score-model"):
        check_calls(plan_of(Task(id="a", call="os.system")))
    with pytest.raises(RunError, match="unknown call 'shutil:rmtree'"):
        load_call("shutil:rmtree")
    for name in CALLS:
        assert callable(load_call(name))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"id": "a"}', '{"id": "a", "call": "x", "shell": "rm"}', "\0"])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "spec.json"
    path.write_text(text)
    with pytest.raises(RunError, match="not a valid task") as caught:
        read_task(path)
    assert caught.value.where == str(path)
    with pytest.raises(RunError, match="cannot read"):
        read_task(tmp_path / "absent.json")


def test_a_plan_of_another_version_is_refused(tmp_path: Path) -> None:
    values = json.loads(plan_of(task("a")).model_dump_json())
    (tmp_path / "plan.json").write_text(json.dumps({**values, "schema_version": 2}))
    with pytest.raises(RunError, match="not a valid plan: schema_version"):
        read_plan(tmp_path / "plan.json")
