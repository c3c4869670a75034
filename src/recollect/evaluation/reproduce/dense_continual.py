"""Tasks that arrive one after another: what is kept, what is learned, what it costs, what goes.

Beside the memory a linear head on the same frozen features: fine-tuned on each task alone, with
replay of earlier cells, and trained on everything seen so far.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.encoders.torch import load_torch
from recollect.evaluation import dense_baselines as baselines
from recollect.evaluation.dense_data import Samples, Task, spread
from recollect.evaluation.dense_metrics import PixelCounts
from recollect.evaluation.reproduce.dense_answers import score_of
from recollect.heads.dense_memory.masks import enlarge
from recollect.types import Floats

SETTINGS: dict[str, Any] = {"score": "path", "k": (100, 60, 30), "position": 0.3}  # as chosen
OF_NUMBERS: dict[str, Any] = {
    "score": "path", "k": (100, 60, 30), "temperature": 0.1, "reading": "linear"
}  # fmt: skip
CELLS = 60_000  # of each task, for the linear heads
REPLAY = 0.1  # share of earlier cells that replay keeps
ASKED = 20  # samples of each task that are asked
STEPS = 20  # of L-BFGS between two looks at the loss
LABEL_GROUPS = ((0, 1, 3, 5), (2, 4, 7), (6, 8, 9, 10))


@dataclass(frozen=True, slots=True)
class Stage:
    """One task of a protocol.

    Attributes:
        name: What arrives.
        taught: Samples to learn from.
        asked: Samples to be asked from then on.
    """

    name: str
    taught: Samples
    asked: Samples


def measure_continual(task: Task) -> dict[str, Any]:
    """Measure both protocols: new scenes, and new labels."""
    return {
        "words": "CamVid, tasks one after another",
        "kind": "continual",
        "until_converged": True,
        "later_part_asked": True,
        "settings": {name: list(v) if isinstance(v, tuple) else v for name, v in SETTINGS.items()},
        "protocols": {
            "new scenes": _protocol(task, scenes(task)),
            "new labels": _protocol(task, label_groups(task)),
        },
    }


def measure_modality(labels: Task, numbers: Task) -> dict[str, Any]:
    """Samples that were known by their labels come again with numbers; features are the same.

    Neither a memory nor linear heads with outputs of their own forget here: what differs is the
    time to learn. Both modalities are asked about before and after.
    """
    few = np.unique(np.linspace(0, len(labels.test) - 1, ASKED).astype(int))
    lines = []
    for name, learn in (("memory", _taught), ("linear heads", _fitted)):
        first, spent = learn(labels)
        before = _figure(labels, first, labels.test.take(few))
        second, more = learn(numbers)
        lines.append({
            "name": name, "labels_before": before,
            "labels_after": _figure(labels, first, labels.test.take(few)),
            "numbers": _figure(numbers, second, numbers.test.take(few)),
            "seconds": [round(spent, 2), round(more, 2)],
        })  # fmt: skip
    return {"taught": len(labels.train), "asked": len(few), "lines": lines}


def _taught(task: Task) -> tuple[Callable[[Any], NDArray[Any]], float]:
    from recollect import DenseMemoryRegressor, DenseMemorySegmenter

    if task.labels:
        head: Any = DenseMemorySegmenter(ignore=task.ignore, **SETTINGS)
    else:
        head = DenseMemoryRegressor(**OF_NUMBERS)
    begun = time.perf_counter()
    for start in range(0, len(task.train), 64):
        part = task.train.take(range(start, min(start + 64, len(task.train))))
        head.partial_fit(part.pyramids, part.truth)
    head.answer(task.train.pyramids[:1])  # lays the cells out: part of learning
    spent = time.perf_counter() - begun

    def answer(levels: Any) -> NDArray[Any]:
        """Shares over all labels of the task, 0 for those never taught; numbers in one column."""
        [found] = head.answer([levels])
        if not task.labels:
            values: NDArray[Any] = np.nan_to_num(found.prediction).reshape(-1, 1)
            return values
        shares = np.zeros((found.valid.size, len(task.labels)))
        shares[:, head.classes_] = found.shares.reshape(found.valid.size, -1)
        return shares

    return answer, spent


def _fitted(task: Task) -> tuple[Callable[[Any], NDArray[Any]], float]:
    others, held = task.to_choose()
    trained = baselines.linear_head_chosen(
        task.train, len(task.labels), others=others, held=held.take(spread(len(held), ASKED)),
        score=score_of(task), most=CELLS,
    )  # fmt: skip
    return trained.answer, trained.seconds


def _figure(task: Task, answer: Callable[[Any], NDArray[Any]], samples: Samples) -> float:
    if task.labels:
        return round(_miou(task, answer, samples, np.arange(len(task.labels))), 4)
    errors = []
    for levels, truth in zip(samples.pyramids, samples.truth, strict=True):
        full = enlarge(answer(levels), levels[-1].shape[:-1], truth.shape)[..., 0]
        errors.append(float(np.nanmean((full - truth) ** 2)))
    return round(float(np.sqrt(np.mean(errors))), 4)


def scenes(task: Task) -> list[Stage]:
    """One task a video: its first four fifths are taught, the rest, later in time, is asked."""
    films = [name.split("_")[0] for name in task.train.names]
    stages = []
    for film in sorted(set(films)):
        rows = [at for at, each in enumerate(films) if each == film]
        taught = max(1, 4 * len(rows) // 5)
        asked = rows[taught:] or rows[-1:]
        stages.append(Stage(
            film, task.train.take(rows[:taught]), task.train.take(
                [asked[at] for at in spread(len(asked), ASKED)]
            ),
        ))  # fmt: skip
    return stages


def label_groups(task: Task) -> list[Stage]:
    """One task a group of labels: its frames show these alone, all else is unlabelled."""
    stages = []
    for at, group in enumerate(LABEL_GROUPS):
        rows = range(at, len(task.train), len(LABEL_GROUPS))
        shown, asked = task.train.take(rows), task.test
        asked = asked.take(np.unique(np.linspace(0, len(asked) - 1, ASKED).astype(int)))
        names = ", ".join(task.labels[label] for label in group)
        stages.append(Stage(
            names, _only(shown, group, task.ignore), _only(asked, group, task.ignore)
        ))  # fmt: skip
    return stages


def _only(samples: Samples, group: Sequence[int], ignore: int) -> Samples:
    masks = [np.where(np.isin(mask, group), mask, ignore) for mask in samples.truth]
    kept = [at for at, mask in enumerate(masks) if (mask != ignore).any()]
    some = samples.take(kept)
    return Samples(some.pyramids, [masks[at] for at in kept], some.names)


def _protocol(task: Task, stages: list[Stage]) -> dict[str, Any]:
    methods: list[tuple[str, Callable[[Task, list[Stage]], _Course]]] = [
        ("memory", _memory),
        ("fine-tuned", lambda t, s: _linear(t, s, replay=0.0, joint=False)),
        ("fine-tuned with replay", lambda t, s: _linear(t, s, replay=REPLAY, joint=False)),
        ("joint training", lambda t, s: _linear(t, s, replay=0.0, joint=True)),
    ]
    lines = []
    for name, method in methods:
        course = method(task, stages)
        table = np.array([row + [np.nan] * (len(stages) - len(row)) for row in course.scores])
        learned = np.diag(table)
        kept = table[-1] - learned
        lines.append({
            "name": name, "final": round(float(np.mean(table[-1])), 4),
            "plasticity": round(float(np.mean(learned)), 4),
            "retention": round(float(np.mean(kept[:-1])), 4) if len(stages) > 1 else 0.0,
            "seconds": [round(each, 3) for each in course.seconds],
            **course.unlearning,
        })  # fmt: skip
    return {
        "stages": [
            {"name": s.name, "taught": len(s.taught), "asked": len(s.asked)} for s in stages
        ],
        "lines": lines,
    }


@dataclass
class _Course:
    """Mean IoU on each task so far after every task, and the time to learn each."""

    scores: list[list[float]]
    seconds: list[float]
    unlearning: dict[str, Any]


def _memory(task: Task, stages: list[Stage]) -> _Course:
    from recollect import DenseMemorySegmenter

    head = DenseMemorySegmenter(ignore=task.ignore, **SETTINGS)
    course = _Course([], [], {})
    for at, stage in enumerate(stages):
        begun = time.perf_counter()
        head.partial_fit(stage.taught.pyramids, stage.taught.truth)
        classes = head.classes_  # brings the cells up to date: part of learning
        course.seconds.append(time.perf_counter() - begun)

        def answer(levels: Any, head: Any = head) -> NDArray[Any]:
            """Shares over the classes taught so far, one row a cell."""
            shares = head.answer([levels])[0].shares
            flat: NDArray[Any] = shares.reshape(-1, shares.shape[-1])
            return flat

        course.scores.append(
            [_miou(task, answer, each.asked, classes) for each in stages[: at + 1]]
        )
    course.unlearning = _unlearned(task, head, stages)
    return course


def _unlearned(task: Task, head: Any, stages: list[Stage]) -> dict[str, Any]:
    """Forget the first task and compare with a memory that never held it."""
    from recollect import DenseMemorySegmenter

    first = len(stages[0].taught)
    begun = time.perf_counter()
    head.forget(head.ids_[:first])
    labels = head.classes_
    seconds = time.perf_counter() - begun
    fresh = DenseMemorySegmenter(ignore=task.ignore, **SETTINGS)
    for stage in stages[1:]:
        fresh.partial_fit(stage.taught.pyramids, stage.taught.truth)
    asked = stages[0].asked.pyramids[:3]
    same = np.array_equal(head.predict_proba(asked), fresh.predict_proba(asked))
    return {
        "unlearning_seconds": round(seconds, 3),
        "same_bits_as_never_taught": bool(same and np.array_equal(labels, fresh.classes_)),
    }


def _linear(task: Task, stages: list[Stage], *, replay: float, joint: bool) -> _Course:
    torch, width = load_torch(), len(task.labels)
    course = _Course([], [], {})
    rng = np.random.default_rng(0)
    seen: list[tuple[Floats, Floats]] = []
    weights: Any = None
    for at, stage in enumerate(stages):
        features, wanted = baselines.gather(stage.taught, width, most=CELLS)
        features *= 10.0  # about one each, where the solver is quick
        begun = time.perf_counter()
        parts = [(features, wanted)]
        if joint:
            parts, weights = [*seen, (features, wanted)], None
        elif replay:
            parts += [_share(part, replay, rng) for part in seen]
        inputs = torch.from_numpy(np.concatenate([part[0] for part in parts]))
        truth = torch.from_numpy(np.concatenate([part[1] for part in parts]))
        weights = _descend(torch, inputs, truth, weights)
        course.seconds.append(time.perf_counter() - begun)
        seen.append((features, wanted))
        matrix, offset = (each.detach().numpy() for each in weights)

        def answer(levels: Any, matrix: Any = matrix, offset: Any = offset) -> NDArray[Any]:
            """Shares that are not divided by their sum, as only the largest of a cell counts."""
            scores: NDArray[Any] = baselines.hypercolumns(levels) * 10.0 @ matrix + offset
            shares: NDArray[Any] = np.exp(scores - scores.max(axis=1, keepdims=True))
            return shares

        labels = np.arange(width)
        course.scores.append([_miou(task, answer, each.asked, labels) for each in stages[: at + 1]])
    return course


def _share(
    part: tuple[Floats, Floats], share: float, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    chosen = rng.random(len(part[0])) < share
    return part[0][chosen], part[1][chosen]


def _descend(torch: Any, inputs: Any, truth: Any, weights: Any) -> Any:
    """L-BFGS on softmax regression, from where the weights stand, until its loss is flat."""
    if weights is None:
        weights = (
            torch.zeros(inputs.shape[1], truth.shape[1], requires_grad=True),
            torch.zeros(truth.shape[1], requires_grad=True),
        )
    solver = torch.optim.LBFGS(list(weights), max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Any:
        """Cross-entropy with decay, and its gradients: L-BFGS calls it at every trial step."""
        solver.zero_grad()
        scores = torch.log_softmax(inputs @ weights[0] + weights[1], dim=1)
        value = -(truth * scores).sum(dim=1).mean() + 1e-5 * weights[0].square().sum()
        value.backward()
        return value

    before = float("inf")
    for _ in range(baselines.MOST_STEPS // STEPS):
        now = float(solver.step(loss).detach())  # before its steps
        if before - now < baselines.CONVERGED * abs(now):
            break
        before = now
    return weights


def _miou(
    task: Task, answer: Callable[[Any], NDArray[Any]], samples: Samples, classes: NDArray[Any]
) -> float:
    counts = PixelCounts(range(len(task.labels)), task.ignore)
    for levels, truth in zip(samples.pyramids, samples.truth, strict=True):
        full = enlarge(answer(levels), levels[-1].shape[:-1], truth.shape)
        counts.add(truth, classes[full.argmax(axis=-1)])
    present = counts.counts.sum(axis=1) > 0
    return float(np.nanmean(counts.iou()[present]))
