"""The words after ``--slurm``: every option of sbatch in every form, and nothing that a shell could see."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import missing

from flat_bug.cluster import setup_file
from flat_bug.cluster.option_values import header_line, megabytes_of, seconds_of_time
from flat_bug.cluster.options import SlurmRequest, gather_slurm_words, parse_defaults, parse_slurm
from flat_bug.cluster.sbatch_names import LETTERS, MANAGED, OPTIONS, Kind, Takes
from flat_bug.errors import UsageError

EXAMPLES = {Kind.TEXT: "a", Kind.COUNT: "3", Kind.NUMBER: "7", Kind.TIME: "1-02:03:04", Kind.MEMORY: "32G"}
FOR_USERS = sorted(OPTIONS.keys() - MANAGED.keys())
WITH_VALUE = [name for name in FOR_USERS if OPTIONS[name].takes is not Takes.NOTHING]
FLAGS = [name for name in FOR_USERS if OPTIONS[name].takes is not Takes.VALUE]
OF_TEXT = [name for name in FOR_USERS if OPTIONS[name].takes is Takes.VALUE and OPTIONS[name].kind is Kind.TEXT]
HOSTILE = [
    "$(touch pwned)",
    "`id`",
    ";reboot",
    "'\"",
    "--wrap=id",
    "a b",
    "#x",
    "\\",
    "é",
    "a=b,c=d",
    "%j",
    "-x",
    "&",
    "|",
]


def options_of(*words: str) -> dict[str, str | bool]:
    return parse_slurm(words).options


def error_of(*words: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        parse_slurm(words)
    return caught.value


def parsed_or_error(words: list[str]) -> SlurmRequest | UsageError:
    try:
        return parse_slurm(words)
    except UsageError as error:
        return error


class TestForms:
    def test_the_words_of_the_guide(self, tmp_path, monkeypatch):
        (tmp_path / "setup.txt").write_text("module load python\n")
        monkeypatch.chdir(tmp_path)
        words = ["slurm_setup=setup.txt", "gres=gpu:t4:1", "cpus_per_task=12", "mem=32GB", "time=01:00:00"]
        assert parse_slurm(words) == SlurmRequest(
            {"gres": "gpu:t4:1", "cpus-per-task": "12", "mem": "32GB", "time": "01:00:00"},
            setup=tmp_path / "setup.txt",
        )

    @pytest.mark.parametrize("name", WITH_VALUE)
    def test_every_option_is_given_in_three_forms(self, name):
        value = EXAMPLES[OPTIONS[name].kind]
        key = f"slurm-{name}" if name == "profile" else name
        assert options_of(f"{key.replace('-', '_')}={value}") == {name: value}
        assert options_of(f"--{key}={value}") == {name: value}
        if OPTIONS[name].takes is Takes.VALUE:
            assert options_of(f"--{key}", value) == {name: value}

    @pytest.mark.parametrize("name", FLAGS)
    def test_every_flag_is_turned_on_in_five_forms(self, name):
        for words in ([name], [f"--{name}"], [f"{name}=true"], [f"{name.replace('-', '_')}=yes"], [f"--{name}=on"]):
            assert options_of(*words) == {name: True}

    def test_a_number_is_no_switch_where_the_option_takes_one(self):
        assert options_of("nice=1", "oom_kill_step=0") == {"nice": "1", "oom-kill-step": "0"}
        assert options_of("requeue=1", "exclusive=1") == {"requeue": True, "exclusive": True}
        assert options_of("exclusive=user") == {"exclusive": "user"}
        assert options_of("no_kill=off") == {"no-kill": "off"}

    def test_a_flag_is_turned_off(self):
        assert parse_slurm(["exclusive=false"]) == SlurmRequest({}, frozenset({"exclusive"}))
        assert options_of("requeue=no") == {"no-requeue": True}

    @pytest.mark.parametrize("letter", sorted(LETTERS))
    def test_a_letter_of_sbatch_is_a_key(self, letter):
        option = OPTIONS[LETTERS[letter]]
        if option.name in MANAGED:
            assert "is not for you to set" in error_of(f"{letter}=1").what
        else:
            value = EXAMPLES[option.kind] if option.takes is not Takes.NOTHING else "true"
            assert option.name in options_of(f"{letter}={value}")

    def test_a_dash_and_a_letter_are_refused_since_the_command_has_letters_of_its_own(self):
        assert error_of("-t", "5").mend == "Write t=01:00:00 instead of -t 01:00:00."

    def test_the_last_word_counts(self):
        assert options_of("time=1", "--time", "2", "t=3") == {"time": "3"}
        assert options_of("exclusive=no", "exclusive") == {"exclusive": True}
        assert options_of("exclusive", "exclusive=no") == {}

    @pytest.mark.parametrize(
        ("word", "name", "value"),
        [
            ("export=A=1,B=2", "export", "A=1,B=2"),
            ("export=NONE", "export", "NONE"),
            ("comment=a=b", "comment", "a=b"),
            ("dependency=afterok:12:13", "dependency", "afterok:12:13"),
            ("slurm_partition=gpu", "partition", "gpu"),
            ("slurm_gpus_per_node=2", "gpus-per-node", "2"),
            ("tasks_per_node=2", "ntasks-per-node", "2"),
            ("mem_gb=32", "mem", "32G"),
            ("slurm_mem_gb=32", "mem", "32G"),
            ("timeout_min=60", "time", "60"),
            ("slurm_profile=task", "profile", "task"),
            ("name=first", "job-name", "first"),
        ],
    )
    def test_a_word_and_what_it_means(self, word, name, value):
        assert options_of(word) == {name: value}

    def test_words_of_ours(self):
        words = ["profile=alliance", "environment=~/dist", "max_parallel=4", "--tasks-per-job", "3", "retries=0"]
        assert parse_slurm(words) == SlurmRequest(
            profile="alliance", environment="~/dist", max_parallel=4, tasks_per_job=3, retries=0
        )
        assert parse_slurm(["slurm_array_parallelism=7"]).max_parallel == 7

    def test_no_words_ask_for_nothing(self):
        assert parse_slurm([]) == SlurmRequest()


class TestValues:
    @pytest.mark.parametrize("text", ["1", "1:30", "01:00:00", "1-0", "1-00:30", "3-12:00:00", "UNLIMITED", "0", "-1"])
    def test_times_that_sbatch_takes(self, text):
        assert options_of(f"time={text}") == {"time": text}

    @pytest.mark.parametrize("text", ["1h", "60m", "1:2:3:4", "1-2:3:4:5", "01:00:", ":30", "-5", " 1", "٣", "1.5"])
    def test_times_that_sbatch_refuses(self, text):
        assert "01:00:00" in error_of(f"time={text}").what

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("90", 5400),
            ("1:30", 90),
            ("01:02:03", 3723),
            ("1-0", 86400),
            ("1-2:30", 95400),
            ("1-02:03:04", 93784),
            ("0", float("inf")),
            ("Unlimited", float("inf")),
        ],
    )
    def test_the_seconds_of_a_time(self, text, seconds):
        assert seconds_of_time(text) == seconds

    @pytest.mark.parametrize("text", ["32", "512M", "32GB", "1g", "1gb", "2T", "0", "1024KB"])
    def test_memory_that_sbatch_takes(self, text):
        assert options_of(f"mem={text}") == {"mem": text}

    @pytest.mark.parametrize("text", ["1GiB", "1B", "1.5G", "G", "-1", "32 GB", "32GB/node"])
    def test_memory_that_sbatch_refuses(self, text):
        assert "32GB" in error_of(f"mem={text}").what

    def test_the_megabytes_of_memory(self):
        sizes = [megabytes_of(text) for text in ("512", "512M", "32GB", "2t", "1024kb")]
        assert sizes == [512, 512, 32768, 2 * 1024**2, 1]

    @pytest.mark.parametrize("text", ["0", "-1", "two", "1-2", "1.0"])
    def test_a_count_is_a_whole_number_from_one(self, text):
        assert error_of(f"cpus_per_task={text}").where == f"cpus-per-task={text}"

    @pytest.mark.parametrize("word", ["max_parallel=0", "tasks_per_job=-1", "retries=x", "retries=9999999999"])
    def test_numbers_of_ours_are_checked(self, word):
        assert "whole number" in error_of(word).what

    @pytest.mark.parametrize("text", HOSTILE)
    @pytest.mark.parametrize("name", ["comment", "account", "job-name", "gres"])
    def test_what_a_shell_would_act_on_is_text(self, name, text):
        assert options_of(f"{name}={text}") == {name: text}
        assert options_of(f"--{name}", text) == {name: text}

    @pytest.mark.parametrize(
        "text", ["a\nb", "a\n#SBATCH --wrap=id", "\r", "a\0b", "\x1b[31m", "\x85", "\u2028", "\udcff"]
    )
    def test_what_would_leave_the_line_of_the_header_is_refused(self, text):
        for name in ("comment", "account", "profile", "environment", "slurm_setup"):
            error = error_of(f"{name}={text}")
            assert "line break" in error.what
            assert error.where.isprintable()

    def test_an_empty_value_is_refused(self):
        assert error_of("account=").what == "the value of an option is empty"
        assert "variable" in error_of("account=").mend

    @given(st.sampled_from(OF_TEXT), st.text())
    def test_a_value_comes_back_exactly_or_is_refused(self, name, text):
        found = parsed_or_error([f"slurm_{name}={text}"])
        if isinstance(found, UsageError):
            assert not text.isprintable() or not text
            assert all(line.isprintable() for line in found.lines())
        else:
            assert found.options == {name: text}

    @given(st.lists(st.text(), max_size=4))
    def test_any_words_are_understood_or_refused(self, words):
        found = parsed_or_error(words)
        if isinstance(found, UsageError):
            assert all(line.isprintable() for line in found.lines())
        else:
            assert found.options.keys() <= OPTIONS.keys() - MANAGED.keys()


class TestRefusals:
    @pytest.mark.parametrize("name", sorted(MANAGED))
    def test_what_the_run_sets_itself_is_refused_in_every_form(self, name):
        for word in (f"{name}=x", f"--{name}=x", f"--{name}", f"slurm_{name.replace('-', '_')}=x"):
            error = error_of(word)
            assert error.what.startswith(f"{name} is not for you to set")
            assert error.mend

    def test_what_to_use_instead_of_the_array(self):
        assert "max_parallel" in error_of("array=0-9%2").mend
        assert "slurm_setup" in error_of("--wrap=touch pwned").mend

    @pytest.mark.parametrize(
        ("word", "mend"),
        [
            ("cpu_per_task=2", "Did you mean cpus_per_task?"),
            ("--acount=x", "Did you mean account?"),
            ("max_paralel=3", "Did you mean max_parallel?"),
            ("slurm_timelimit=1", "Did you mean time"),
            ("slurm_additional_parameters={}", "Give each option as a word of its own: comment=text."),
            ("qqqqqqqqqqq=1", "Here stand options of sbatch (man sbatch); what is for the command itself goes before"),
            ("=3", "Write it as mem=32GB."),
            ("", "Write it as mem=32GB."),
        ],
    )
    def test_an_unknown_word_is_answered_with_the_nearest(self, word, mend):
        assert error_of(word).mend.startswith(mend)

    def test_an_option_without_its_value_is_refused(self):
        assert error_of("mem").what == "an option of --slurm has no value"
        assert error_of("--mem").what == "an option of --slurm has no value"
        assert error_of("--profile").what == "an option of --slurm has no value"
        assert error_of("requeue", "hold=3").what == "a flag has no value"

    @pytest.mark.parametrize(
        "words", [("mem=1G", "mem_per_cpu=1G"), ("requeue", "no_requeue"), ("requeue=no", "requeue")]
    )
    def test_options_that_exclude_each_other(self, words):
        if words == ("requeue=no", "requeue"):
            assert options_of(*words) == {"requeue": True}
        else:
            assert error_of(*words).what == "these options exclude each other"

    def test_the_name_in_a_message_cannot_act_on_a_terminal(self):
        assert all(line.isprintable() for line in error_of("\x1b[31mred=1").lines())


class TestDefaults:
    def test_the_user_replaces_what_the_profile_says(self):
        defaults = parse_defaults({"gres": "gpu:1", "cpus_per_task": 12, "mem": "32G", "time": "60", "exclusive": True})
        assert defaults == {"gres": "gpu:1", "cpus-per-task": "12", "mem": "32G", "time": "60", "exclusive": True}
        request = parse_slurm(["mem_per_cpu=4G", "gpus_per_node=2", "exclusive=no", "time=10"])
        assert request.over(defaults) == {
            "cpus-per-task": "12",
            "mem-per-cpu": "4G",
            "gpus-per-node": "2",
            "time": "10",
        }

    def test_nothing_said_leaves_the_defaults(self):
        assert SlurmRequest().over({"mem": "1G"}) == {"mem": "1G"}

    @pytest.mark.parametrize("name", ["slurm_setup", "max_parallel", "array", "memory", "wrap"])
    def test_a_profile_sets_nothing_but_options_of_sbatch(self, name):
        with pytest.raises(UsageError):
            parse_defaults({name: "1"})


class TestSetupFile:
    @pytest.fixture
    def shelf(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        folder = tmp_path / "checkout" / setup_file.SHELF
        folder.mkdir(parents=True)
        (folder / "setup.txt").write_text("echo shelf\n")
        monkeypatch.setattr(setup_file, "shelves", lambda: [folder])
        monkeypatch.chdir(tmp_path)
        return folder

    def test_a_bare_name_is_found_on_the_shelf_of_the_checkout(self, shelf):
        assert parse_slurm(["slurm_setup=setup.txt"]).setup == shelf / "setup.txt"

    def test_a_file_here_comes_first(self, shelf, tmp_path):
        (tmp_path / "setup.txt").write_text("echo here\n")
        assert parse_slurm(["slurm_setup=setup.txt"]).setup == tmp_path / "setup.txt"

    def test_a_path_and_a_home(self, shelf, tmp_path, monkeypatch):
        (tmp_path / "my setup.sh").write_text("")
        monkeypatch.setenv("HOME", str(tmp_path))
        for text in ("./my setup.sh", "~/my setup.sh", str(tmp_path / "my setup.sh")):
            assert parse_slurm([f"slurm_setup={text}"]).setup == tmp_path / "my setup.sh"

    def test_the_shelf_of_this_checkout_and_of_the_current_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        first, second = setup_file.shelves()
        assert first == Path(setup_file.__file__).parents[3] / "scripts" / "experiments" / "slurm_config"
        assert second == tmp_path / "scripts" / "experiments" / "slurm_config"

    def test_an_absent_script_is_answered_with_the_places_and_the_nearest(self, shelf, tmp_path):
        error = error_of("slurm_setup=setup.tx")
        assert error.where == f"looked for {tmp_path / 'setup.tx'}, {shelf / 'setup.tx'}"
        assert error.mend == f"Did you mean {shelf / 'setup.txt'}?"

    def test_a_path_is_not_looked_for_on_the_shelf(self, shelf, tmp_path):
        assert error_of("slurm_setup=../setup.txt").where == f"looked for {tmp_path / '../setup.txt'}"

    @pytest.mark.parametrize(
        ("content", "what"),
        [(b"\xff\xfe", "not a text"), (b"a\0b", "not a script"), (b"a\r\nb\r\n", "line ends of Windows")],
    )
    def test_what_is_no_shell_script_is_refused(self, shelf, content, what):
        (shelf / "setup.txt").write_bytes(content)
        assert what in error_of("slurm_setup=setup.txt").what

    @pytest.mark.parametrize("text", ["$(touch pwned)", "`id`.txt", "x;id"])
    def test_a_hostile_name_is_a_name(self, shelf, tmp_path, text):
        assert "no such script" in error_of(f"slurm_setup={text}").what
        (tmp_path / text).write_text("")
        assert parse_slurm([f"slurm_setup={text}"]).setup == tmp_path / text
        assert not (tmp_path / "pwned").exists()


class TestGathering:
    OWN = ("--output", "--input", "--tmp", "--dry-run", "--store_all", "--json")

    def gather(self, line: str) -> str:
        return " ".join(gather_slurm_words(line.split(), self.OWN))

    @pytest.mark.parametrize(
        ("line", "becomes"),
        [
            ("-i a -o b", "-i a -o b"),
            ("-i a --slurm", "-i a --slurm"),
            ("--slurm mem=1G -o b", "--slurm mem=1G -o b"),
            ("--slurm --mem 1G --time=01:00:00 --hold -o b", "--slurm mem=1G time=01:00:00 hold=true -o b"),
            (
                "--slurm a=b --output c --mem 1G --dry-run --export=A=1,B=2",
                "--slurm a=b mem=1G export=A=1,B=2 --output c --dry-run",
            ),
            ("--slurm --cpus_per_task 3 --nice=-5", "--slurm cpus-per-task=3 nice=-5"),
            ("--slurm --slurm-setup setup.txt --max_parallel=3", "--slurm slurm-setup=setup.txt max-parallel=3"),
            ("--slurm --exclusive --store-all --help", "--slurm exclusive=true --store-all --help"),
            ("--slurm --comment --mem", "--slurm comment=--mem"),
            ("--slurm=mem=1G time=3 --hold", "--slurm mem=1G time=3 hold=true"),
            ("--slurm a=b -o x --slurm c=d", "--slurm a=b -o x c=d"),
            ("--slurm --tmp here --hold -- --mem 3", "--slurm hold=true --tmp here -- --mem 3"),
            ("-- --slurm --mem 3", "-- --slurm --mem 3"),
            ("--mem 3 --slurm a=b", "--mem 3 --slurm a=b"),
        ],
    )
    def test_options_of_sbatch_become_words_of_slurm(self, line, becomes):
        assert self.gather(line) == becomes

    def test_a_value_stays_one_word(self):
        words = gather_slurm_words(["--slurm", "--comment", "$(touch pwned) x", "-o", "b"], self.OWN)
        assert words == ["--slurm", "comment=$(touch pwned) x", "-o", "b"]

    def test_what_is_neither_sbatchs_nor_the_commands_is_answered_with_the_nearest_of_both(self):
        for word, mend in (("--acount", "Did you mean account?"), ("--dryrun", "Did you mean --dry-run?")):
            with pytest.raises(UsageError) as caught:
                gather_slurm_words(["--slurm", word, "x"], self.OWN)
            assert caught.value.mend == mend

    def test_what_the_run_sets_itself_is_refused_here_too(self):
        with pytest.raises(UsageError, match="wrap is not for you to set"):
            gather_slurm_words(["--slurm", "--wrap", "touch pwned"], self.OWN)

    def test_an_option_without_its_value_is_refused(self):
        with pytest.raises(UsageError, match="has no value"):
            gather_slurm_words(["--slurm", "--mem"], self.OWN)

    @given(
        st.lists(
            st.sampled_from(["--slurm", "-o", "x", "--mem", "3G", "--hold", "--output", "a=b", "--", "--time=5", ""])
        )
    )
    def test_no_word_is_lost(self, tokens):
        try:
            gathered = gather_slurm_words(tokens, self.OWN)
        except UsageError:
            return

        def parts(words: list[str]) -> list[str]:
            pieces = (piece.removeprefix("--") for word in words for piece in word.split("="))
            return sorted(piece for piece in pieces if piece not in {"", "true", "slurm"})

        assert parts(gathered) == parts(tokens)
        assert gather_slurm_words(gathered, self.OWN) == gathered


class TestHeader:
    def test_plain_values_need_no_quotes(self):
        assert header_line("gres", "gpu:t4:1") == "#SBATCH --gres=gpu:t4:1"
        assert header_line("hold", True) == "#SBATCH --hold"

    def test_others_are_quoted_the_way_sbatch_reads(self):
        assert header_line("comment", 'a "b" # \\c') == '#SBATCH --comment="a \\"b\\" # \\\\c"'

    @given(st.sampled_from(OF_TEXT), st.text())
    def test_a_value_that_is_taken_is_one_line(self, name, text):
        try:
            options = parse_slurm([f"slurm_{name}={text}"]).options
        except UsageError:
            return
        assert len(re.split(r"[\n\r]", header_line(name, options[name]))) == 1

    @given(st.text())
    def test_a_shell_that_reads_the_script_sees_a_comment(self, text):
        try:
            options = parse_slurm([f"comment={text}"]).options
        except UsageError:
            return
        script = header_line("comment", options["comment"]) + "\ntrue\n"
        assert script.startswith("#")
        assert script.count("\n") == 2


def test_the_names_are_those_of_the_sbatch_that_is_installed(tmp_path):
    """Each long option that this machine's sbatch tells of is in the table; a slim image has no manual page."""
    conf = tmp_path / "slurm.conf"
    conf.write_text("ClusterName=x\nSlurmctldHost=localhost\nNodeName=n CPUs=1\nPartitionName=p Nodes=n\n")
    command = [shutil.which("sbatch") or missing("sbatch"), "--help"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env={"SLURM_CONF": str(conf)})
    names = set(re.findall(r"^ +(?:-\w, +)?--([a-z-]+)", told.stdout, re.MULTILINE))
    assert len(names) > 80
    assert names <= OPTIONS.keys()
