"""The chance of success along one variable: a penalised cubic regression spline for binomial data.

The same model as ``gam(y ~ s(x, bs = "cr", k = 10), family = binomial, method = "REML")`` of R's mgcv (S. N. Wood,
*Generalized Additive Models*, 2nd edition, 2017: the basis in section 5.3.1, the score in section 6.2.6): a natural
cubic spline given by its values at knots, whose wiggliness is penalised by as much as restricted maximum likelihood
says. The spline contains constants and straight lines, so the intercept needs no coefficient of its own.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

Floats = npt.NDArray[np.float64]

LEAST_KNOTS = 3
UNPENALISED = 2
"""Dimensions without a penalty: constants and straight lines."""

NORMAL_95 = 1.959963984540054
# Logarithms of the weight of the penalty, relative to the data: from a free spline to a straight line.
WEAKEST, STRONGEST, STEPS = -12.0, 18.0, 16
NEWTON_STEPS = 100
HALVINGS = 30


@dataclass(frozen=True, eq=False)
class Smooth:
    """The chance of success at some places, between 0 and 1.

    Attributes:
        fit: ``(n,)`` the most plausible chance.
        low: ``(n,)`` lower end of its 95 % interval.
        high: ``(n,)`` upper end.
    """

    fit: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, eq=False)
class _Fit:
    coefficients: Floats
    factor: tuple[Floats, bool]
    score: float


def binomial_smooth(x: Floats, success: npt.NDArray[np.bool_], grid: Floats, *, knots: int = 10) -> Smooth | None:
    """Fit the chance of success along ``x`` and return it on a grid.

    Args:
        x: ``(n,)`` the variable.
        success: ``(n,)`` outcome of each trial.
        grid: ``(m,)`` where the fit is wanted; outside the data it goes on as a straight line of the log odds.
        knots: Number of knots, at quantiles of the distinct values; fewer when there are fewer values.

    Returns:
        The fit, or nothing when the data do not determine one: fewer than three distinct values, all outcomes alike,
        outcomes that a threshold on ``x`` separates, for which the likelihood has no maximum, or too few of one kind.
    """
    distinct = np.unique(x)
    if len(distinct) < LEAST_KNOTS or _separated(x, success):
        return None
    places = np.quantile(distinct, np.linspace(0, 1, min(knots, len(distinct))))
    # In the directions of its own axes the penalty is a sum of squares, without differences of large numbers.
    penalty, axes = np.linalg.eigh(_penalty(places))
    penalty[:UNPENALISED] = 0
    basis = _basis(x, places) @ axes
    penalty *= np.linalg.norm(basis.T @ basis) / np.linalg.norm(penalty)
    best = _best_fit(basis, success.astype(np.float64), penalty)
    if best is None:
        return None
    on_grid = _basis(grid, places) @ axes
    middle = on_grid @ best.coefficients
    spread = NORMAL_95 * np.sqrt(np.sum(on_grid * cho_solve(best.factor, on_grid.T).T, axis=1))
    return Smooth(expit(middle), expit(middle - spread), expit(middle + spread))


def _separated(x: Floats, success: npt.NDArray[np.bool_]) -> bool:
    if success.all() or not success.any():
        return True
    good, bad = x[success], x[~success]
    return bool(good.max() <= bad.min() or bad.max() <= good.min())


def _best_fit(basis: Floats, outcome: Floats, penalty: Floats) -> _Fit | None:
    """Return the fit whose weight of the penalty has the best restricted likelihood."""
    rank = len(penalty) - UNPENALISED
    # A constant: its coefficients are those of the share of successes at every knot.
    level = np.linalg.lstsq(basis, np.full(len(outcome), logit(outcome.mean())))[0]

    def fit(log_weight: float, start: Floats) -> _Fit:
        return _penalised_fit(basis, outcome, np.exp(log_weight) * penalty, rank * log_weight, start)

    steps = np.linspace(STRONGEST, WEAKEST, STEPS)
    fits = [fit(steps[0], level)]
    for step in steps[1:]:
        fits.append(fit(step, fits[-1].coefficients))
    scores = np.array([one.score for one in fits])
    # The score may have several minima. The one at the weakest penalty is none: of few trials a free spline separates
    # the outcomes, and its score falls without end.
    minima = np.flatnonzero((scores[:-1] <= np.append(np.inf, scores[:-2])) & (scores[:-1] <= scores[1:]))
    if not len(minima):
        return None
    nearest = int(minima[np.argmin(scores[minima])])
    bounds = steps[nearest + 1], steps[max(0, nearest - 1)]
    start = fits[nearest].coefficients
    found = minimize_scalar(
        lambda step: fit(step, start).score, bounds=bounds, method="bounded", options={"xatol": 1e-7}
    )
    return fit(float(found.x), start)


def _penalised_fit(basis: Floats, outcome: Floats, penalty: Floats, log_penalty: float, start: Floats) -> _Fit:
    """Return the coefficients of the greatest penalised likelihood, by Newton's method.

    Args:
        basis: ``(n, k)`` value of each basis function at each trial.
        outcome: ``(n,)`` 0 or 1.
        penalty: ``(k,)`` weight of the square of each coefficient.
        log_penalty: Logarithm of the product of the penalty's eigenvalues, up to a constant.
        start: ``(k,)`` first guess.
    """
    coefficients, loss = start, _loss(basis, outcome, penalty, start)
    for _ in range(NEWTON_STEPS):
        chance = expit(basis @ coefficients)
        slope = basis.T @ (outcome - chance) - penalty * coefficients
        step = cho_solve(_curvature(basis, chance, penalty), slope)
        # What is left to gain, as Newton's method sees it.
        if slope @ step <= 1e-12 * (1 + loss):
            break
        for _ in range(HALVINGS):
            new_loss = _loss(basis, outcome, penalty, coefficients + step)
            if new_loss <= loss:
                break
            step = step / 2
        coefficients, loss = coefficients + step, new_loss
    factor = _curvature(basis, expit(basis @ coefficients), penalty)
    log_curvature = 2 * float(np.log(np.diag(factor[0])).sum())
    return _Fit(coefficients, factor, loss + (log_curvature - log_penalty) / 2)


def _loss(basis: Floats, outcome: Floats, penalty: Floats, coefficients: Floats) -> float:
    """Return half the penalised deviance."""
    odds = basis @ coefficients
    return float(np.logaddexp(0, odds).sum() - outcome @ odds + penalty @ coefficients**2 / 2)


def _curvature(basis: Floats, chance: Floats, penalty: Floats) -> tuple[Floats, bool]:
    weights = chance * (1 - chance)
    factor: tuple[Floats, bool] = cho_factor(basis.T @ (weights[:, None] * basis) + np.diag(penalty))
    return factor


def _second_derivatives(places: Floats) -> tuple[Floats, Floats]:
    """Return D and B: B times the second derivatives at the inner knots is D times the values at the knots."""
    gaps = np.diff(places)
    inner = np.arange(len(gaps) - 1)
    values = np.zeros((len(inner), len(places)))
    values[inner, inner] = 1 / gaps[:-1]
    values[inner, inner + 1] = -1 / gaps[:-1] - 1 / gaps[1:]
    values[inner, inner + 2] = 1 / gaps[1:]
    bends = np.diag((gaps[:-1] + gaps[1:]) / 3) + np.diag(gaps[1:-1] / 6, 1) + np.diag(gaps[1:-1] / 6, -1)
    return values, bends


def _penalty(places: Floats) -> Floats:
    """Return the ``(k, k)`` matrix of the integral of the squared second derivative."""
    values, bends = _second_derivatives(places)
    return np.asarray(values.T @ np.linalg.solve(bends, values), np.float64)


def _basis(x: Floats, places: Floats) -> Floats:
    """Return ``(n, k)``: what the value at each knot adds to the spline at each ``x``."""
    values, bends = _second_derivatives(places)
    curvature = np.zeros((len(places), len(places)))
    curvature[1:-1] = np.linalg.solve(bends, values)
    inside = np.clip(x, places[0], places[-1])
    left = np.clip(np.searchsorted(places, inside, side="right") - 1, 0, len(places) - 2)
    gap = np.diff(places)[left]
    after, before = inside - places[left], places[left + 1] - inside
    unit = np.eye(len(places))
    basis = (before / gap)[:, None] * unit[left] + (after / gap)[:, None] * unit[left + 1]
    basis += ((before**3 / gap - gap * before) / 6)[:, None] * curvature[left]
    basis += ((after**3 / gap - gap * after) / 6)[:, None] * curvature[left + 1]
    # Beyond the outermost knots the spline has no curvature; its slope there is that of the first or last piece.
    outside = (x - inside)[:, None]
    slope = (unit[left + 1] - unit[left]) / gap[:, None]
    slope += np.where(
        outside < 0, -2 * curvature[left] - curvature[left + 1], curvature[left] + 2 * curvature[left + 1]
    ) * (gap[:, None] / 6)
    return np.asarray(basis + outside * slope, np.float64)
