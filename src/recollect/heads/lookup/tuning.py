"""The three weights of the distance, by Bayesian optimization on images set aside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recollect.errors import MissingExtra
from recollect.heads.lookup.settings import check_whole

if TYPE_CHECKING:
    import optuna

Weights = tuple[float, float, float]
# Random settings before the model of the objective takes over (published: 5 of 10).
_STARTUP = 6


@dataclass(frozen=True, slots=True)
class WeightReport:
    """What a weight search tried.

    Attributes:
        weights: The best weights (glimpse, state, location); they sum to 3.
        score: Accuracy with them on the images of the search.
        unweighted: Accuracy with (1, 1, 1), which is always tried first.
        trace: All weights and their accuracy, in the order tried.
        oracle: True if the search saw the images that the accuracy is reported on, as the paper's
            did.
    """

    weights: Weights
    score: float
    unweighted: float
    trace: tuple[tuple[Weights, float], ...]
    oracle: bool = False


def search_weights(
    score: Callable[[Weights], float],
    *,
    evaluations: int = 25,
    seed: int = 0,
    factor: float = 16.0,
    oracle: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> WeightReport:
    """Search the weights with a Gaussian process; only proportions count, so two numbers are free.

    Args:
        score: Weights (glimpse, state, location) -> accuracy, larger is better. It must not see
            the images that an accuracy is reported on.
        evaluations: Settings to try; the first is (1, 1, 1), so the result is never worse there.
        seed: Of the search.
        factor: Weights of glimpse and location run over this factor in both directions, relative
            to the state's (published: 100).
        oracle: The mark of a search that did see them.
        progress: Called as ``progress(done, total)``.

    Returns:
        The best setting, ties to the one tried first, and all that were tried.

    Raises:
        MissingExtra: optuna is not installed.
    """
    check_whole("evaluations", evaluations, 1)
    try:
        import optuna
    except ImportError as missing:
        raise MissingExtra(
            "searching weights needs optuna",
            remedy="pip install 'recollect[lookup]', or pass weights=(1, 1, 1).",
        ) from missing
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.GPSampler(seed=seed, n_startup_trials=_STARTUP)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.enqueue_trial({"glimpse": 1.0, "location": 1.0})
    trace: list[tuple[Weights, float]] = []
    for number in range(evaluations):
        trial = study.ask()
        weights = _suggested(trial, factor)
        reached = float(score(weights))
        study.tell(trial, reached)
        trace.append((weights, reached))
        if progress is not None:
            progress(number + 1, evaluations)
    best = max(range(len(trace)), key=lambda place: (trace[place][1], -place))
    return WeightReport(*trace[best], trace[0][1], tuple(trace), oracle)


def _suggested(trial: optuna.Trial, factor: float) -> Weights:
    """Return what a trial suggests; the weights sum to 3."""
    glimpse, location = (
        trial.suggest_float(name, 1 / factor, factor, log=True) for name in ("glimpse", "location")
    )
    total = glimpse + 1.0 + location
    return 3 * glimpse / total, 3 / total, 3 * location / total
