# ruff: noqa: S108, S607 - folders of clusters have short names; nothing here comes from outside
"""The throw-away Slurm: it is real, it is alone, it fails on request, and it leaves nothing behind."""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import missing

from flat_bug.cluster.rehearsal import ending, hosts
from flat_bug.cluster.rehearsal.daemons import MARK, Process, kill, marked, wait_until
from flat_bug.cluster.rehearsal.local_slurm import LocalSlurm
from flat_bug.cluster.rehearsal.parts import check_parts
from flat_bug.cluster.rehearsal.ports import ReservedPorts
from flat_bug.cluster.rehearsal.shape import ClusterShape
from flat_bug.errors import MissingPartError, UsageError

Maker = Callable[[ClusterShape], LocalSlurm]
QUICK = ClusterShape(nodes=1, accounting=False)


def sbatch(*options: str, script: str) -> str:
    """Submit a script and return the id of its job."""
    command = ["sbatch", "--parsable", *options]
    done = subprocess.run(command, input=f"#!/bin/bash\n{script}\n", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def state_of(cluster: LocalSlurm, job: str) -> str:
    found = re.search(r"JobState=(\S+)", cluster.ask("scontrol", "show", "job", job))
    return found[1] if found else ""


def wait_for_state(cluster: LocalSlurm, job: str, *states: str, seconds: float = 40) -> None:
    assert wait_until(lambda: state_of(cluster, job) in states, seconds), state_of(cluster, job)


def wait_for_file(path: Path, seconds: float = 20) -> str:
    assert wait_until(lambda: path.exists() and path.read_text().endswith("\n"), seconds), path
    return path.read_text()


@pytest.mark.slurm
class TestWhatJobsMeet:
    def test_an_array_runs_on_all_nodes_and_the_database_knows_of_it(self, slurm: LocalSlurm, tmp_path: Path) -> None:
        job = sbatch("--array=0-5", "--gres=gpu:t4:1", f"-o{tmp_path}/%a", script="echo $SLURMD_NODENAME; sleep 1")
        assert slurm.wait_drained()
        assert {path.read_text().strip() for path in tmp_path.iterdir()} == set(slurm.node_names)
        assert slurm.ask("sacct", "-n", "-X", "-j", job, "-o", "State").split() == ["COMPLETED"] * 6

    def test_each_job_has_a_folder_on_its_node_that_goes_with_it(self, slurm: LocalSlurm, tmp_path: Path) -> None:
        sbatch(f"-o{tmp_path}/log", script="touch $SLURM_TMPDIR/here && stat -c %a $SLURM_TMPDIR && echo $SLURM_TMPDIR")
        assert slurm.wait_drained()
        rights, folder = (tmp_path / "log").read_text().split()
        assert rights == "700"
        assert Path(folder).is_relative_to(slurm.folders.scratch)
        assert wait_until(lambda: not Path(folder).exists(), 10)

    def test_the_modules_of_the_guide_load_and_bring_a_python(self, slurm: LocalSlurm, tmp_path: Path) -> None:
        script = """
            set -e
            module load python/3.11.5 opencv/4.10.0 gcc scipy-stack/2024a r/4.4.0
            python -c 'import sys; assert sys.prefix == sys.base_prefix, sys.prefix; print("plain")'
            virtualenv --no-download $SLURM_TMPDIR/env >/dev/null
            $SLURM_TMPDIR/env/bin/python -c 'import sys; print(sys.prefix)'
        """
        sbatch(f"-o{tmp_path}/log", "--export=NONE", script=script)
        assert slurm.wait_drained()
        assert re.fullmatch(r"plain\n\S+/scratch/node\d/\S+/env\n", (tmp_path / "log").read_text())

    def test_a_module_that_is_not_there_is_an_error(self, slurm: LocalSlurm, tmp_path: Path) -> None:
        job = sbatch(f"-o{tmp_path}/log", script="module load python/2.7 || exit 7")
        assert slurm.wait_drained()
        assert "ExitCode=7:0" in slurm.ask("scontrol", "show", "job", job)

    def test_nothing_of_the_one_who_started_it_reaches_the_daemons(
        self, make_slurm: Maker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
        cluster = make_slurm(QUICK)
        for process in marked(cluster.folders.state):
            assert b"hush" not in Path(f"/proc/{process.pid}/environ").read_bytes()

    def test_all_sockets_are_on_the_loopback(self, slurm: LocalSlurm) -> None:
        inodes = {
            str(entry.readlink())
            for process in marked(slurm.folders.state)
            for entry in Path(f"/proc/{process.pid}/fd").iterdir()
            if entry.is_symlink()
        }
        listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        ours = {fields[1].split(":")[0] for fields in listening if f"socket:[{fields[9]}]" in inodes}
        assert ours == {"0100007F"}


@pytest.mark.slurm
class TestShapes:
    def test_without_accounting_sacct_knows_nothing(self, make_slurm: Maker) -> None:
        cluster = make_slurm(QUICK)
        assert not cluster.answers("sacct")

    def test_only_the_accounts_that_exist_are_charged(self, make_slurm: Maker) -> None:
        cluster = make_slurm(ClusterShape(nodes=1, accounts=("def-lab", "rrg-lab_gpu"), qos=("long",)))
        submit = ("sbatch", "--test-only", "--wrap=true")
        assert cluster.answers(*submit, "--account=rrg-lab_gpu", "--qos=long")
        assert cluster.answers(*submit)
        assert not cluster.answers(*submit, "--account=def-other")
        assert not cluster.answers(*submit, "--qos=short")

    def test_more_jobs_than_allowed_are_refused(self, make_slurm: Maker) -> None:
        cluster = make_slurm(ClusterShape(nodes=1, max_submit_jobs=2))
        hold = ("sbatch", "--hold", "--wrap=true", "-o/dev/null")
        assert cluster.answers(*hold)
        assert not cluster.answers(*hold, "--array=0-1")
        assert cluster.answers(*hold)
        assert not cluster.answers(*hold)

    def test_a_limit_on_jobs_needs_accounting(self) -> None:
        with pytest.raises(ValueError, match="accounting"):
            ClusterShape(accounting=False, max_submit_jobs=2)

    def test_arrays_are_limited_or_absent(self, make_slurm: Maker) -> None:
        array = ("sbatch", "--test-only", "--wrap=true")
        small = make_slurm(ClusterShape(nodes=1, accounting=False, max_array_size=10))
        assert small.answers(*array, "--array=0-9")
        assert not small.answers(*array, "--array=0-10")
        without = make_slurm(ClusterShape(nodes=1, accounting=False, arrays=False))
        assert without.answers(*array)
        assert not without.answers("sbatch", "--wrap=true", "--array=0-1")

    def test_nodes_may_claim_more_than_this_machine_has(self, make_slurm: Maker) -> None:
        shape = ClusterShape(
            nodes=1, accounting=False, gpus=4, gpu_type="a100", cpus=256, memory_mb=4_000_000, partitions=("a", "b"),
            features=("fast",), countable=("lscratch:10",), licenses=("matlab:2",),
        )  # fmt: skip
        cluster = make_slurm(shape)
        request = ["-c", "200", "--mem=3T", "--gres=gpu:a100:4,lscratch:7", "-p", "b", "-C", "fast", "-L", "matlab"]
        assert cluster.answers("sbatch", "--wrap=true", "-o/dev/null", *request)
        assert cluster.wait_drained()

    def test_jobs_of_the_urgent_partition_take_the_place_of_others(self, make_slurm: Maker) -> None:
        cluster = make_slurm(ClusterShape(nodes=1, preempt=True))
        common = ["-c4", "-o/dev/null"]
        job = sbatch("--no-requeue", *common, script="sleep 600")
        wait_for_state(cluster, job, "RUNNING")
        sbatch("-p", "urgent", *common, script="true")
        wait_for_state(cluster, job, "PREEMPTED")

    def test_without_a_folder_or_modules_jobs_have_neither(self, make_slurm: Maker, tmp_path: Path) -> None:
        make_slurm(ClusterShape(nodes=1, accounting=False, node_folder=False, modules=False)).wait_drained()
        sbatch(f"-o{tmp_path}/log", script="echo folder=$SLURM_TMPDIR; module load python || echo no module")
        assert wait_for_file(tmp_path / "log").startswith("folder=\n")
        assert wait_until(lambda: "no module" in (tmp_path / "log").read_text(), 10)

    def test_jobs_without_the_internet_are_sent_to_a_proxy_that_is_not_there(self, make_slurm: Maker) -> None:
        make_slurm(ClusterShape(nodes=1, accounting=False, internet=False))
        fetch = "from urllib.request import urlopen; urlopen('http://example.org')"
        command = ["srun", sys.executable, "-c", fetch]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert "Connection refused" in done.stderr

    def test_the_folder_may_be_chosen_and_has_a_plain_short_name(self, make_slurm: Maker, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="letters"):
            make_slurm(ClusterShape(state=tmp_path / "with space"))
        state = Path(f"/tmp/fb-chosen-{os.getpid()}")
        assert make_slurm(ClusterShape(nodes=1, accounting=False, state=state)).folders.state == state

    def test_a_folder_of_somebody_else_is_not_taken(self, make_slurm: Maker) -> None:
        state = Path(f"/tmp/fb-taken-{os.getpid()}")
        state.mkdir()
        (state / "diary.txt").write_text("mine")
        try:
            with pytest.raises(UsageError, match="cannot be made"):
                make_slurm(ClusterShape(state=state))
            assert (state / "diary.txt").read_text() == "mine"
        finally:
            shutil.rmtree(state)


@pytest.mark.slurm
class TestFailures:
    @pytest.mark.slow
    def test_a_crashed_node_takes_its_job_with_it_and_serves_again(self, slurm: LocalSlurm, tmp_path: Path) -> None:
        # A stray that has left its job must go with the node, too.
        stray = f"(setsid sleep 3600 >/dev/null 2>&1 & echo $! >{tmp_path}/stray)"
        job = sbatch("--no-requeue", "-w", "node2", "-o/dev/null", script=f"{stray}; sleep 600")
        process = Process.of(int(wait_for_file(tmp_path / "stray")))
        assert process is not None
        slurm.crash_node("node2")
        assert not process.is_alive()
        wait_for_state(slurm, job, "NODE_FAIL")
        assert slurm.node_states()["node2"] == "down"
        slurm.start_node("node2")
        assert slurm.node_states()["node2"] == "idle"

    def test_a_job_out_of_memory_says_so(self, slurm: LocalSlurm) -> None:
        job = sbatch("--array=0-1", "-o/dev/null", script="sleep 600")
        wait_for_state(slurm, f"{job}_1", "RUNNING")
        slurm.out_of_memory(f"{job}_1")
        wait_for_state(slurm, f"{job}_1", "OUT_OF_MEMORY")
        assert state_of(slurm, f"{job}_0") == "RUNNING"
        assert wait_until(lambda: "OUT_OF" in slurm.ask("sacct", "-nXP", "-j", f"{job}_1", "-o", "State"), 20)
        assert slurm.ask("sacct", "-nXP", "-j", f"{job}_1", "-o", "State,ExitCode").strip() == "OUT_OF_MEMORY|0:125"

    def test_only_a_running_job_can_be_out_of_memory(self, slurm: LocalSlurm) -> None:
        with pytest.raises(UsageError):
            slurm.out_of_memory("99999")

    @pytest.mark.slow
    def test_a_time_limit_comes_when_it_is_wanted(self, slurm: LocalSlurm) -> None:
        job = sbatch("-t", "60", "-o/dev/null", script="sleep 600")
        wait_for_state(slurm, job, "RUNNING")
        slurm.end_time_now(job)
        wait_for_state(slurm, job, "TIMEOUT")

    @pytest.mark.slow
    def test_jobs_survive_a_restart_of_the_controller(self, slurm: LocalSlurm, tmp_path: Path) -> None:
        sbatch(f"-o{tmp_path}/log", script="sleep 2; echo survived")
        assert wait_until((tmp_path / "log").exists, 10)
        slurm.stop_controller()
        assert not slurm.answers("squeue")
        slurm.start_controller()
        assert wait_for_file(tmp_path / "log") == "survived\n"

    @pytest.mark.slow
    def test_the_database_learns_later_what_happened_without_it(self, slurm: LocalSlurm) -> None:
        slurm.stop_accounting()
        assert not slurm.answers("sacct")
        job = sbatch("-o/dev/null", script="true")
        wait_for_state(slurm, job, "COMPLETED")
        slurm.start_accounting()
        assert slurm.wait_drained()
        assert slurm.ask("sacct", "-nX", "-j", job, "-o", "State").split() == ["COMPLETED"]

    def test_there_are_no_other_nodes(self, slurm: LocalSlurm) -> None:
        with pytest.raises(UsageError, match="no such node"):
            slurm.crash_node("node9")


@pytest.mark.slurm
class TestNothingIsLeft:
    def test_stop_ends_jobs_and_strays_and_removes_all_files(self, make_slurm: Maker, tmp_path: Path) -> None:
        cluster = make_slurm(QUICK)
        sbatch("-o/dev/null", script=f"setsid env -i /bin/sleep 3601 & echo $! >{tmp_path}/pid; sleep 600")
        stray = Process.of(int(wait_for_file(tmp_path / "pid")))
        state = cluster.folders.state
        processes = marked(state)
        assert stray in processes
        cluster.stop()
        assert not state.exists()
        assert not [process for process in processes if process.is_alive()]

    def test_a_cluster_that_was_started_by_hand_stays_until_it_is_stopped_by_hand(self, make_slurm: Maker) -> None:
        make_slurm(QUICK)
        state = f"/tmp/{ending.PREFIX}hand-{os.getpid()}"

        def by_hand(*words: str) -> subprocess.CompletedProcess[str]:
            script = Path(__file__).parents[1] / "scripts" / "local_slurm.py"
            command = [sys.executable, str(script), "--state", state, *words]
            return subprocess.run(command, capture_output=True, text=True, check=False)

        start = ("start", "--nodes", "2", "--no-accounting")
        try:
            assert f"export SLURM_CONF={state}/etc/slurm.conf\n" in by_hand(*start).stdout
            assert "runs there already" in by_hand(*start).stderr
            make_slurm(QUICK)
            cluster = LocalSlurm.attach(Path(state))
            assert cluster.node_states() == {"node1": "idle", "node2": "idle"}
            assert by_hand("crash-node", "node2").returncode == 0
            assert len(marked(Path(state), "node1")) == 1
            assert not marked(Path(state), "node2")
            assert by_hand("start-node", "node2").returncode == 0
        finally:
            by_hand("stop")
        assert not Path(state).exists()
        assert "no throw-away Slurm" in by_hand("env").stderr

    def test_stop_can_leave_the_logs(self, make_slurm: Maker) -> None:
        cluster = make_slurm(QUICK)
        state = cluster.folders.state
        cluster.stop(wipe=False)
        assert not marked(state)
        assert (state / "log" / "slurmctld.log").is_file()
        cluster.stop()
        assert not state.exists()

    @pytest.mark.parametrize("keeper_too", [False, True])
    def test_a_killed_process_leaves_no_cluster(self, make_slurm: Maker, keeper_too: bool) -> None:
        code = """if True:
            import time
            from flat_bug.cluster.rehearsal.local_slurm import LocalSlurm
            from flat_bug.cluster.rehearsal.shape import ClusterShape
            cluster = LocalSlurm(ClusterShape(nodes=1, accounting=False))
            cluster.start()
            print(cluster.folders.state, cluster._keeper.pid, flush=True)
            time.sleep(600)
        """
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        folder, keeper = process.stdout.readline().split()
        state = Path(folder)
        assert marked(state)
        if keeper_too:
            os.kill(int(keeper), signal.SIGKILL)
        process.kill()
        process.communicate()
        if keeper_too:
            assert marked(state)
            make_slurm(QUICK)
        assert wait_until(lambda: not state.exists(), 10)
        assert not marked(state)

    def test_a_start_that_fails_leaves_nothing(self, monkeypatch: pytest.MonkeyPatch, make_slurm: Maker) -> None:
        def fail(_: LocalSlurm) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(LocalSlurm, "start_controller", fail)
        before = set(ending.usual_parent().glob(f"{ending.PREFIX}*"))
        with pytest.raises(KeyboardInterrupt):
            make_slurm(QUICK)
        assert set(ending.usual_parent().glob(f"{ending.PREFIX}*")) <= before

    def test_several_run_side_by_side(self, make_slurm: Maker, slurm: LocalSlurm) -> None:
        other = make_slurm(QUICK)
        assert other.node_states() == {"node1": "idle"}
        other.stop()
        assert slurm.node_states() == dict.fromkeys(slurm.node_names, "idle")


@pytest.mark.slurm
def test_a_user_who_is_not_root_has_a_cluster_of_their_own(make_slurm: Maker) -> None:
    interpreter = "/usr/bin/python3"
    test = [interpreter, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
    if not Path(interpreter).exists() or subprocess.run(test, check=False).returncode != 0:
        missing("a Python 3.11 that every user can run")
    make_slurm(QUICK).stop()
    code = """if True:
        from flat_bug.cluster.rehearsal.local_slurm import LocalSlurm
        from flat_bug.cluster.rehearsal.shape import ClusterShape
        with LocalSlurm(ClusterShape(nodes=2, accounts=("def-lab",))) as cluster:
            script = "module load gcc; touch $SLURM_TMPDIR/x; id -un"
            print(cluster.ask("srun", "-A", "def-lab", "-N2", "bash", "-c", script))
    """
    source = Path(__file__).parents[1] / "src"
    variables = {"HOME": "/tmp", "PATH": "/usr/bin:/bin", "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
    as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
    command = [*as_nobody, interpreter, "-c", code]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, cwd="/", check=False)
    user = "nobody" if as_nobody else pwd.getpwuid(os.getuid()).pw_name
    assert done.stdout.split() == [user, user], done.stderr


@pytest.mark.slurm
def test_it_runs_where_there_is_no_network_at_all(make_slurm: Maker) -> None:
    alone = ["unshare", "--net"]
    if subprocess.run([*alone, "true"], check=False, capture_output=True).returncode != 0:
        missing("the right to take the network away from a process")
    make_slurm(QUICK).stop()
    code = """if True:
        from flat_bug.cluster.rehearsal.local_slurm import LocalSlurm
        from flat_bug.cluster.rehearsal.shape import ClusterShape
        with LocalSlurm(ClusterShape(nodes=2)) as cluster:
            print(cluster.ask("srun", "-N2", "echo", "hello"))
    """
    done = subprocess.run([*alone, sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stdout.split() == ["hello", "hello"], done.stderr


class TestWithoutSlurm:
    def test_missing_parts_are_named_with_the_command_that_brings_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("flat_bug.cluster.rehearsal.parts.find", lambda program: None)
        with pytest.raises(MissingPartError) as caught:
            check_parts(QUICK)
        assert "slurmctld" in caught.value.where
        assert "mariadb" not in caught.value.where
        assert "apt-get install --no-install-recommends" in caught.value.mend
        with pytest.raises(MissingPartError, match="packages") as caught:
            check_parts(ClusterShape())
        assert "mariadb-server-core" in caught.value.where

    def test_reserved_ports_are_ours_until_they_are_released(self) -> None:
        held = ReservedPorts(3)
        assert len(set(held.numbers)) == 3
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", held.numbers[0]))
        with socket.socket() as daemon:
            daemon.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            daemon.bind(("127.0.0.1", held.numbers[0]))
            daemon.listen()
        held.release()
        with socket.socket() as other:
            other.bind(("127.0.0.1", held.numbers[1]))

    def test_a_process_is_its_number_and_its_start(self) -> None:
        child = subprocess.Popen(["sleep", "600"], env={MARK: "/tmp/nowhere"})
        process = Process.of(child.pid)
        assert process is not None
        assert wait_until(lambda: marked(Path("/tmp/nowhere")) == {process}, 5)
        # Another process that got the same number is not this one.
        stranger = Process(process.pid, process.started + 1)
        assert not stranger.is_alive()
        stranger.send(signal.SIGKILL)
        assert process.is_alive()
        kill(lambda: marked(Path("/tmp/nowhere")))
        assert not process.is_alive()
        assert child.wait() == -signal.SIGKILL
        process.send(signal.SIGKILL)

    def test_children_go_with_their_parents_whatever_their_environment(self) -> None:
        script = "setsid env -i sleep 600 & echo $!; wait"
        parent = subprocess.Popen(["sh", "-c", script], env={MARK: "/tmp/no", "PATH": os.environ["PATH"]}, stdout=-1)
        assert parent.stdout is not None
        child = Process.of(int(parent.stdout.readline()))
        assert child is not None
        kill(lambda: marked(Path("/tmp/no")))
        assert not child.is_alive()
        parent.communicate()


class TestTheNameOfThisMachine:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        file = tmp_path / "hosts"
        file.write_text("127.0.0.1 localhost\n")
        return file

    def test_a_name_that_leads_to_the_loopback_needs_no_line(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(socket, "gethostname", lambda: "localhost")
        hosts.lead_to_loopback(Path("/tmp/one"), file)
        assert file.read_text() == "127.0.0.1 localhost\n"

    def test_each_cluster_takes_its_own_line_away(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(socket, "gethostname", lambda: "login1.invalid")
        for state in ("/tmp/one", "/tmp/one-more"):
            hosts.lead_to_loopback(Path(state), file)
        first, *others = file.read_text().splitlines()
        assert first == "127.0.0.1 login1.invalid login1 # flat-bug throw-away Slurm /tmp/one-more"
        assert len(others) == 2
        hosts.forget(Path("/tmp/one"), file)
        assert "one-more" in file.read_text()
        hosts.forget(Path("/tmp/one-more"), file)
        assert file.read_text() == "127.0.0.1 localhost\n"

    def test_without_the_right_to_add_it_the_error_says_the_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(socket, "gethostname", lambda: "login1.invalid")
        with pytest.raises(MissingPartError) as caught:
            hosts.lead_to_loopback(Path("/tmp/one"), Path("/nowhere/hosts"))
        assert "127.0.0.1 login1.invalid login1" in caught.value.mend
