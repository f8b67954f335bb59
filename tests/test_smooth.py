"""The binomial smooth: against R's mgcv where it is installed, and by what must hold anyway."""

import shutil
import subprocess
import warnings

import numpy as np
import pytest
from scipy.special import expit
from tests.conftest import missing

from flat_bug.evaluation.smooth import Smooth, binomial_smooth

MGCV = """
library(mgcv, quietly = TRUE)
files <- commandArgs(TRUE)
trials <- read.csv(files[1])
grid <- read.csv(files[2])
results <- lapply(unique(trials$case), function(case) {
    model <- gam(y ~ s(x, bs = "cr", k = 10), family = binomial, data = trials[trials$case == case, ], method = "REML",
                 control = gam.control(epsilon = 1e-12, newton = list(conv.tol = 1e-12)))
    fit <- predict(model, grid[grid$case == case, ], se.fit = TRUE)
    around <- function(side) plogis(fit$fit + side * qnorm(0.975) * fit$se.fit)
    data.frame(case = case, fit = around(0), low = around(-1), high = around(1))
})
write.csv(format(do.call(rbind, results), digits = 17), files[3], row.names = FALSE, quote = FALSE)
"""

SHAPES = {
    "a steady rise": (60, lambda x: 1.5 * x),
    "a wave": (200, lambda x: 3 * np.sin(2 * x)),
    "a hill of many trials": (1000, lambda x: 2 + x - x**2),
    "no dependence": (300, lambda x: 0 * x + 2),
    "hardly any trials": (12, lambda x: x),
}


def trials(count: int, odds: object) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    x = rng.normal(0, 1, count)
    return x, rng.random(count) < expit(odds(x))  # type: ignore[operator]


def grid_of(x: np.ndarray) -> np.ndarray:
    # Beyond the data too, where the spline goes on as a straight line.
    return np.linspace(x.min() - 0.5, x.max() + 0.5, 40)


@pytest.fixture(scope="module")
def mgcv(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Return what mgcv makes of all shapes; R takes long to start, so that it does so once."""
    program = shutil.which("Rscript")
    if program is None or subprocess.run([program, "-e", "library(mgcv)"], capture_output=True, check=False).returncode:
        missing("Rscript with mgcv")
    folder = tmp_path_factory.mktemp("mgcv")
    script, data, places, result = (folder / part for part in ("mgcv.R", "data.csv", "grid.csv", "result.csv"))
    script.write_text(MGCV)
    drawn = [trials(*shape) for shape in SHAPES.values()]
    rows = [np.c_[np.full(len(x), case), x, success] for case, (x, success) in enumerate(drawn)]
    grids = [np.c_[np.full(40, case), grid_of(x)] for case, (x, _) in enumerate(drawn)]
    np.savetxt(data, np.vstack(rows), fmt="%.17g", delimiter=",", header="case,x,y", comments="")
    np.savetxt(places, np.vstack(grids), fmt="%.17g", delimiter=",", header="case,x", comments="")
    subprocess.run([str(program), script, data, places, result], check=True, capture_output=True)
    return np.genfromtxt(result, delimiter=",", names=True)


@pytest.mark.parametrize("name", SHAPES)
def test_the_same_as_mgcv(name: str, mgcv: np.ndarray) -> None:
    x, success = trials(*SHAPES[name])
    ours = binomial_smooth(x, success, grid_of(x))
    theirs = mgcv[mgcv["case"] == list(SHAPES).index(name)]
    assert ours is not None
    for part in ("fit", "low", "high"):
        np.testing.assert_allclose(getattr(ours, part), theirs[part], atol=1e-5)


def fitted(x: np.ndarray, success: np.ndarray, grid: np.ndarray | None = None) -> Smooth | None:
    """Return the fit; anything that numpy or scipy would complain about is an error."""
    with warnings.catch_warnings(), np.errstate(all="raise", under="ignore"):
        warnings.simplefilter("error")
        return binomial_smooth(x, success, np.linspace(x.min(), x.max(), 30) if grid is None else grid)


def test_finds_the_chance_that_the_trials_were_drawn_with() -> None:
    x, success = trials(2000, SHAPES["a hill of many trials"][1])
    grid = np.linspace(-2, 2, 50)
    smooth = fitted(x, success, grid)
    assert smooth is not None
    truth = expit(2 + grid - grid**2)
    assert np.abs(smooth.fit - truth).max() < 0.06
    assert ((smooth.low <= truth) & (truth <= smooth.high)).mean() > 0.8


def test_is_a_chance_within_its_interval() -> None:
    x, success = trials(60, SHAPES["a steady rise"][1])
    smooth = fitted(x, success)
    assert smooth is not None
    assert (smooth.low > 0).all()
    assert (smooth.low < smooth.fit).all()
    assert (smooth.fit < smooth.high).all()
    assert (smooth.high < 1).all()


def test_its_mean_is_the_share_of_successes() -> None:
    # The likelihood equations of the intercept: fitted and observed successes are equally many.
    x, success = trials(200, SHAPES["a wave"][1])
    smooth = fitted(x, success, x)
    assert smooth is not None
    assert smooth.fit.mean() == pytest.approx(success.mean(), abs=1e-7)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_units_do_not_matter(scale: float) -> None:
    x, success = trials(200, SHAPES["a wave"][1])
    here, there = fitted(x, success, x[:20]), fitted(scale * (x + 3), success, scale * (x[:20] + 3))
    assert here is not None
    assert there is not None
    np.testing.assert_allclose(here.fit, there.fit, atol=1e-5)


def test_failures_mirror_successes() -> None:
    x, success = trials(200, SHAPES["a wave"][1])
    here, there = fitted(x, success), fitted(x, ~success)
    assert here is not None
    assert there is not None
    np.testing.assert_allclose(here.fit, 1 - there.fit, atol=1e-5)
    np.testing.assert_allclose(here.low, 1 - there.high, atol=1e-5)


@pytest.mark.parametrize(
    "success",
    [
        np.ones(20, np.bool_),
        np.zeros(20, np.bool_),
        np.arange(20) >= 7,
        np.arange(20) < 7,
        np.arange(20) == 19,
    ],
    ids=["all succeed", "all fail", "large ones succeed", "small ones succeed", "only the largest succeeds"],
)
def test_outcomes_without_a_likeliest_curve_have_none(success: np.ndarray) -> None:
    assert fitted(np.arange(20.0), success) is None


def test_two_values_are_too_few_and_three_are_enough() -> None:
    outcome = np.array([True, False, True, True, False, True])
    assert fitted(np.array([1.0, 1, 1, 2, 2, 2]), outcome) is None
    assert fitted(np.array([1.0, 1, 2, 2, 3, 3]), outcome) is not None


def test_any_small_sample_is_fitted_or_refused_without_complaint() -> None:
    for seed in range(25):
        rng = np.random.default_rng(seed)
        count = int(rng.integers(10, 30))
        smooth = fitted(rng.integers(0, 12, count).astype(float), rng.random(count) < rng.random())
        assert smooth is None or np.isfinite(smooth.low + smooth.fit + smooth.high).all()
