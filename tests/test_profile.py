"""Profiles of clusters: shipped ones, a user's own, and what a job asks for by default."""

import re
from pathlib import Path

import pytest

from flat_bug.cluster.profile import (
    KINDS,
    ClusterProfile,
    all_profiles,
    load_profile,
    profile_file,
    shipped_profiles,
    user_profiles,
)
from flat_bug.errors import ConfigError


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the user's own profiles, which is empty."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("SBATCH_ACCOUNT", raising=False)
    monkeypatch.delenv("SLURM_ACCOUNT", raising=False)
    folder = tmp_path / "config" / "flat-bug"
    folder.mkdir(parents=True)
    return folder


def write(folder: Path, text: str, name: str = "default.yaml") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def error_of(folder: Path, text: str) -> ConfigError:
    write(folder, text)
    with pytest.raises(ConfigError) as caught:
        load_profile()
    return caught.value


class TestFinding:
    @pytest.mark.parametrize("name", ["alliance", "generic"])
    def test_shipped_profiles_say_what_each_kind_of_task_asks_for(self, name):
        profile = load_profile(name)
        assert profile.name == name
        assert profile.description
        for kind in KINDS:
            assert {"mem", "time", "cpus-per-task"} <= profile.resources_for(kind).keys()
        assert "gres" not in profile.resources_for("finalise")

    def test_without_a_name_it_is_the_users_default_or_else_generic(self, mine):
        assert load_profile().name == "generic"
        write(mine, "name: ours")
        assert load_profile().name == "ours"

    def test_a_profile_of_the_user_hides_a_shipped_one(self, mine):
        write(mine, "name: mine", "alliance.yml")
        assert load_profile("alliance").name == "mine"
        assert all_profiles()["alliance"] == mine / "alliance.yml"
        assert shipped_profiles()["alliance"] != mine / "alliance.yml"

    def test_a_file_is_named_by_its_path(self, tmp_path, monkeypatch):
        write(tmp_path, "name: there", "there.yaml")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        for name in ("there.yaml", "./there.yaml", "~/there.yaml", str(tmp_path / "there.yaml")):
            assert load_profile(name).name == "there"

    def test_the_users_folder_without_xdg(self, tmp_path, monkeypatch):
        monkeypatch.delenv("XDG_CONFIG_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert user_profiles() == tmp_path / ".config" / "flat-bug"
        assert set(all_profiles()) == {"alliance", "generic"}

    def test_an_unknown_name_is_answered_with_the_nearest(self):
        with pytest.raises(ConfigError) as caught:
            load_profile("aliance")
        assert caught.value.mend == "Did you mean alliance?"
        with pytest.raises(ConfigError, match="no such profile") as caught:
            profile_file("\x1b[31m")
        assert caught.value.where.isprintable()

    @pytest.mark.parametrize("name", ["../nowhere.yaml", "/nowhere.yaml", "~nobody/x.yaml", "$(touch pwned).yaml"])
    def test_a_file_that_is_not_there(self, name, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ConfigError, match="cannot be read"):
            load_profile(name)
        assert not (tmp_path / "pwned").exists()


class TestReading:
    def test_times_and_versions_are_taken_as_they_are_written(self, mine):
        """YAML itself reads 1:00:00 as 3600 and 3.10 as 3.1."""
        write(
            mine,
            """
            name: ours
            python_version: 3.10
            glibc: 2.30
            max_array_size: 501
            purge_modules: yes
            partition: null
            resources:
              score-model: {time: 1:00:00, mem: 010, cpus_per_task: 4, exclusive: true, requeue: no}
            """,
        )
        profile = load_profile()
        assert (profile.python_version, profile.glibc) == ("3.10", "2.30")
        assert (profile.max_array_size, profile.purge_modules, profile.partition) == (501, True, None)
        assert profile.resources_for("score-model") == {
            **{"time": "1:00:00", "mem": "010", "cpus-per-task": "4", "exclusive": True, "no-requeue": True}
        }

    @pytest.mark.parametrize("name", ["alliance", "generic"])
    def test_what_is_written_is_read_back(self, name, mine):
        profile = load_profile(name)
        write(mine, profile.to_yaml())
        assert load_profile() == profile
        assert ClusterProfile.model_validate_json(profile.model_dump_json()) == profile

    @pytest.mark.parametrize(
        ("text", "what"),
        [
            ("name: [", "not YAML"),
            ("- a\n- b", "not a mapping"),
            ("", "'name'"),
            ("name: x\nmodule: [a]", "unknown setting 'module'"),
            ("name: x\npython_version: 3", "python_version"),
            ("name: x\nglibc: musl", "glibc"),
            ("name: x\nmax_array_size: 0", "max_array_size"),
            ("name: x\nresources: {score_model: {mem: 1G}}", "no such kind of task"),
            ("name: x\nresources: {score-model: {memory: 1G}}", "sbatch has no such option"),
            ("name: x\nresources: {score-model: {mem: lots}}", "the value is not such as 32G"),
            ("name: x\nresources: {all: {array: 1-9}}", "array is not for you to set"),
            ("name: x\nresources: {all: {max_parallel: 9}}", "no option of sbatch"),
            ("name: x\nresources: {all: {mem: 1G, mem_per_cpu: 1G}}", "exclude each other"),
            ("name: x\nresources: [a]", "resources"),
            ('name: "a\\nb"', "one line"),
            ('name: x\naccounts: ["a\\n#SBATCH --wrap=id"]', "line break"),
            ("name: x\npartition: ''", "empty"),
            ("name: !!python/object/apply:os.system ['touch pwned']", "not YAML"),
        ],
    )
    def test_a_broken_profile_says_what_is_wrong_with_it(self, mine, text, what):
        error = error_of(mine, text)
        assert what in error.what
        assert error.where.startswith(str(mine / "default.yaml"))

    @pytest.mark.parametrize(
        "word", ["$(touch pwned)", "a b", "a;id", "`id`", "-f", "~/x", "a'b", "a\nb", "", "a*", "{a,b}"]
    )
    def test_what_stands_in_the_script_of_a_job_is_a_plain_word(self, mine, word):
        for name in ("modules", "python", "node_folders"):
            with pytest.raises(ConfigError):
                ClusterProfile.from_mapping({"name": "x", name: word if name == "python" else [word]})

    def test_plain_words(self):
        profile = ClusterProfile.from_mapping(
            {
                "name": "x",
                "modules": ["python/3.11.5", "gcc", "/apps/r/4.4.0", "a@1:2+b-c"],
                "python": "/usr/bin/python3.11",
            }
        )
        assert profile.module_commands() == ["module load python/3.11.5 gcc /apps/r/4.4.0 a@1:2+b-c"]

    @pytest.mark.parametrize("name", ["SLURM_TMPDIR:-x", "$TMPDIR", "a-b", "1A", "A/B"])
    def test_a_local_folder_is_named_by_a_variable(self, name):
        with pytest.raises(ConfigError, match="not the name of a variable"):
            ClusterProfile.from_mapping({"name": "x", "node_folders": [name]})

    def test_a_scratch_that_the_shell_has_emptied_is_noticed(self):
        with pytest.raises(ConfigError, match="did the shell replace a variable"):
            ClusterProfile.from_mapping({"name": "x", "scratch": "/no-such-folder-at-all/me"})


class TestOptionsOfAJob:
    def profile(self, **values: object) -> ClusterProfile:
        kinds = {"all": {"qos": "low", "mem_per_cpu": "4G"}, "score-model": {"gres": "gpu:1", "mem": "32G"}}
        return ClusterProfile.from_mapping({"name": "x", "resources": kinds, **values})

    def test_a_kind_adds_to_all_and_replaces_what_it_contradicts(self):
        assert self.profile().resources_for("score-model") == {"qos": "low", "gres": "gpu:1", "mem": "32G"}
        assert self.profile().resources_for("finalise") == {"qos": "low", "mem-per-cpu": "4G"}

    def test_the_account_is_the_profiles_first_or_that_of_the_login_shell(self):
        variables = {"SBATCH_ACCOUNT": "from-shell", "SLURM_ACCOUNT": "other"}
        assert self.profile(accounts=["one", "two"]).default_account(variables) == "one"
        assert self.profile().default_account(variables) == "from-shell"
        assert self.profile().default_account({"SLURM_ACCOUNT": "other"}) == "other"
        assert self.profile().default_account({}) is None
        assert self.profile().default_account({"SBATCH_ACCOUNT": "a\nb"}) is None

    def test_modules_that_stick_stay(self):
        assert load_profile("alliance").module_commands()[0] == "module purge"
        assert load_profile("generic").module_commands() == []


def test_the_example_of_the_documentation_is_a_profile_with_every_setting(tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "cluster.md").read_text(encoding="utf-8")
    example = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert example is not None
    profile = ClusterProfile.from_yaml(write(tmp_path, example[1]))
    assert set(ClusterProfile.model_fields) - profile.model_fields_set == {"description", "partitions"}
    assert profile.resources_for("score-model")["time"] == "01:00:00"
