"""Why an image got its answer: the row of every look-up, and the votes of the last one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import MissingExtra
from recollect.heads.lookup.layout import Layout
from recollect.heads.lookup.predictor import LookupPredictor
from recollect.heads.lookup.readout import add_votes, rank_weights
from recollect.heads.lookup.replay import Trail
from recollect.types import Evidence, Label

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Recorded images named per look-up.
_NAMED = 5


@dataclass(frozen=True, slots=True)
class LookedUp:
    """One look-up.

    Attributes:
        column: Where the glimpse was taken.
        row: Where the glimpse was taken.
        table_row: The nearest row of the table.
        distance: How far it is; 0 for a key that was recorded.
        images: Ids of the first recorded images that went through this row.
        witnesses: How many did.
        answer: What this row answers.
        comparisons: Keys and centers compared.
    """

    column: int
    row: int
    table_row: int
    distance: float
    images: tuple[int, ...]
    witnesses: int
    answer: Label
    comparisons: int


@dataclass(frozen=True, slots=True)
class LookupExplanation:
    """Why one image got its answer.

    Attributes:
        prediction: The answer.
        score: Its share of the votes; 1.0 where the network answered.
        shares: Share of every label that got a vote, largest first.
        evidence: The rows that voted, look by look where all do, nearest first. ``id`` is that of
            the first recorded image behind the row; contributions of one label add up to its share.
        steps: Every look-up, in order.
        fell_back: True if the rows were too far and the network answered.
    """

    prediction: Label
    score: float
    shares: dict[Label, float]
    evidence: tuple[Evidence, ...]
    steps: tuple[LookedUp, ...]
    fell_back: bool = False

    def draw(self, image: NDArray[Any], layout: Layout) -> Figure:
        """Draw the glimpses on the picture.

        Args:
            image: ``(side, side)``.
            layout: Sizes of the glimpses.

        Raises:
            MissingExtra: matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
            from matplotlib.patches import Rectangle
        except ImportError as missing:
            raise MissingExtra(
                "drawing needs matplotlib", remedy="pip install 'recollect[plots]'"
            ) from missing
        figure = Figure(figsize=(2.2 * len(self.steps), 2.7), dpi=100, layout="constrained")
        for number, (panel, step) in enumerate(
            zip(np.atleast_1d(figure.subplots(1, len(self.steps))), self.steps, strict=True), 1
        ):
            panel.imshow(image, cmap="gray_r")
            for patch, cell in enumerate(layout.cell_sides):
                size = cell * layout.glimpse
                corner = (step.column - size // 2 - 0.5, step.row - size // 2 - 0.5)
                panel.add_patch(Rectangle(corner, size, size, fill=False, color=f"C{patch}"))
            panel.set_title(
                f"{number}: {step.answer}\nimage {step.images[0]}, {step.distance:.1f}", fontsize=9
            )
            panel.set(xlim=(-0.5, layout.side - 0.5), ylim=(layout.side - 0.5, -0.5))
            panel.set_axis_off()
        return figure


def explain_trail(
    predictor: LookupPredictor, trail: Trail, query: int, instead: Label | None = None
) -> LookupExplanation:
    """Explain one image of a trail.

    Args:
        predictor: What made the trail.
        trail: What was looked up.
        query: Which image of it.
        instead: What the network answered because the rows were too far, or None.
    """
    table, unit, names = predictor.table, predictor.costs.unit, predictor.classes
    # Each look is taken where the row of the look before says.
    states = np.concatenate([predictor.start[None], table.states[trail.rows[query, :-1]]])
    steps = tuple(
        LookedUp(
            column=int(states[step, -2]),
            row=int(states[step, -1]),
            table_row=int(row),
            distance=float(trail.distances[query, step] * unit),
            images=tuple(table.witnesses(row)[:_NAMED].tolist()),
            witnesses=int(table.counts[row]),
            answer=names[trail.answers[query, step]],
            comparisons=int(trail.comparisons[query, step]),
        )
        for step, row in enumerate(trail.rows[query])
    )
    evidence = _evidence(predictor, trail, query)
    shares: dict[Label, float] = {}
    for part in evidence:
        shares[part.value] = shares.get(part.value, 0.0) + part.contribution
    ordered = dict(sorted(shares.items(), key=lambda item: -item[1]))
    rows = predictor.voters(trail)[query : query + 1]
    votes = add_votes(rows, table.answers, len(names))
    answer = names[int(votes.argmax())]
    if instead is not None:
        return LookupExplanation(instead, 1.0, ordered, evidence, steps, fell_back=True)
    return LookupExplanation(answer, shares[answer], ordered, evidence, steps)


def _evidence(predictor: LookupPredictor, trail: Trail, query: int) -> tuple[Evidence, ...]:
    table, unit = predictor.table, predictor.costs.unit
    rows = np.atleast_2d(predictor.voters(trail)[query])
    apart = trail.apart[query, -len(rows) :]
    step, rank = np.nonzero(rows >= 0)
    weights = rank_weights(rows.shape[1])[rank]
    parts = weights / weights.sum()
    return tuple(
        Evidence(
            id=int(table.witnesses(row)[0]),
            value=predictor.classes[table.answers[row]],
            similarity=-float(distance * unit),
            weight=float(table.counts[row]),
            contribution=float(part),
        )
        for row, distance, part in zip(rows[step, rank], apart[step, rank], parts, strict=True)
    )
