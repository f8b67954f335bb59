"""What tests share: real images where they are present, and the rule that CI skips no test for want of a part."""

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

from flat_bug.cluster.rehearsal.local_slurm import LocalSlurm
from flat_bug.cluster.rehearsal.parts import missing_packages
from flat_bug.cluster.rehearsal.shape import ClusterShape
from flat_bug.training.environment import PARTS

# A busy machine is no reason for a test to fail.
settings.register_profile("flat-bug", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("flat-bug")

BESIDE = Path(__file__).parents[2] / "shared"
"""A folder beside the checkout, where real images and models are looked for unless a variable names others."""


def missing(part: str) -> NoReturn:
    """Skip a test for want of a part; fail instead where every part is required."""
    if os.environ.get("FLAT_BUG_REQUIRE_ALL") == "1":
        pytest.fail(f"{part} is required here")
    pytest.skip(f"needs {part}")


def needs(module: str, extra: str) -> None:
    """Skip or fail a test where a module of one of our extras is not installed."""
    if find_spec(module) is None:
        missing(f"the extra {extra}")


def real_data_folder() -> Path | None:
    """Return the folder of real datasets, or None where there is none."""
    return named_or_beside("FLAT_BUG_REAL_DATA", "data/pre-pro")


def named_or_beside(variable: str, beside: str) -> Path | None:
    """Return the folder that a variable names, or the one beside the checkout, if it is there."""
    if named := os.environ.get(variable):
        if not Path(named).is_dir():
            pytest.fail(f"{variable} names no folder: {named}")
        return Path(named)
    return BESIDE / beside if (BESIDE / beside).is_dir() else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Ask for the parts of a marked test before its fixtures use them."""
    if item.get_closest_marker("train"):
        for part in PARTS:
            needs(part, "train")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real datasets, one sub-folder each; they are never part of the repository."""
    folder = real_data_folder()
    if folder is None:
        pytest.skip("needs real images: FLAT_BUG_REAL_DATA")
    return folder


@pytest.fixture(scope="session")
def real_weights() -> Path:
    """Return the weights of a network that was trained on real images; they are never part of the repository."""
    folder = named_or_beside("FLAT_BUG_REAL_MODELS", "models")
    weights = folder / "trial-yolo11n-seg-640.onnx" if folder else None
    if weights is None or not weights.is_file():
        pytest.skip("needs weights that were trained on real images: FLAT_BUG_REAL_MODELS")
    return weights


@pytest.fixture(scope="session")
def spots_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny network that finds dark spots of any size up to its tile."""
    # Needs onnx, which most tests do not load.
    from tests.spots import write_network

    return write_network(tmp_path_factory.mktemp("network") / "spots.onnx")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Have torch compute with one thread: on a busy machine threads wait for each other, minutes instead of seconds."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def session_slurm() -> Iterator[LocalSlurm]:
    """Return the Slurm that the tests of one process share; a test takes ``slurm``."""
    need_slurm(ClusterShape())
    with LocalSlurm() as cluster:
        yield cluster


@pytest.fixture
def slurm(session_slurm: LocalSlurm, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalSlurm]:
    """Return a real Slurm with accounting, three nodes and an empty queue, which commands find by themselves.

    A test may break it: it is repaired, and its jobs are cancelled, when the test ends.
    """
    use_cluster(session_slurm, monkeypatch)
    yield session_slurm
    session_slurm.repair()
    session_slurm.cancel_all()


@pytest.fixture
def make_slurm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[ClusterShape], LocalSlurm]]:
    """Return a function that starts a Slurm of another shape, for one test."""
    started: list[LocalSlurm] = []

    def make(shape: ClusterShape) -> LocalSlurm:
        need_slurm(shape)
        cluster = LocalSlurm(shape)
        started.append(cluster)
        cluster.start()
        use_cluster(cluster, monkeypatch)
        return cluster

    yield make
    for cluster in started:
        cluster.stop()


def need_slurm(shape: ClusterShape) -> None:
    packages = missing_packages(shape)
    if packages:
        missing(f"Slurm ({', '.join(packages)})")


def use_cluster(cluster: LocalSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the commands that a test runs find this cluster, and no other that the caller may be on."""
    for name in list(os.environ):
        if name.startswith(("SLURM_", "SLURMD_", "SBATCH_", "SALLOC_", "SRUN_", "SQUEUE_", "SINFO_", "SACCT_")):
            monkeypatch.delenv(name)
    for name, value in cluster.environment().items():
        monkeypatch.setenv(name, value)
