"""Never worse than the base? Every comparison of the residual-memory study, counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recollect.evaluation.reproduce.markdown import table


@dataclass(frozen=True, slots=True)
class Compared:
    """One memory beside its base on the same questions.

    Attributes:
        group: Data and base.
        what: What tells it from others of its group.
        unit: Of the gain.
        gain: In that unit.
        error: Standard error of the paired difference.
        active: False where the memory turned itself off.
    """

    group: str
    what: str
    unit: str
    gain: float
    error: float
    active: bool

    @property
    def ratio(self) -> float:
        """The gain in standard errors; 0 where nothing differs."""
        return self.gain / self.error if self.error else 0.0


def comparisons(report: Mapping[str, Any]) -> list[Compared]:
    """Every line of the parts that compare a tuned memory with its base.

    Next tokens count in the measure their settings were chosen by. The part ``layers`` asks one
    of the bases again, and is not counted.
    """

    def figures(name: str) -> Any:
        """Nothing where a part was not measured."""
        return report.get(name, {}).get("figures") or []

    found = [
        _points(
            f"{line['data']}, ResNet-{line['depth']}",
            f"{line['rows']:,} rows, seed {line['seed']}",
            line,
        )
        for line in figures("images")
    ]
    found += [
        _points(
            f"{line['data']}, {line['base_model']}",
            f"{line['residuals']}, seed {line['seed']}",
            line,
        )
        for line in figures("tables")
    ]
    found += [_token(line) for line in (figures("language") or {"methods": []})["methods"]]
    found += [
        _points(
            f"JPEG shift, {line['network'].removeprefix('cifar10_')}",
            f"{line['rows']:,} rows, {line['method'].removeprefix('ResMem, ')}",
            line,
        )
        for line in figures("shift")
        if line["method"].startswith("ResMem")
    ]
    return found


def edges(report: Mapping[str, Any]) -> list[str]:
    """Say how many memories chose the largest or least value tried; [] where that is not known."""
    found = [
        setting
        for part in ("images", "layers", "tables", "language", "shift")
        for setting in _settings(report.get(part, {}).get("figures") or [])
        if setting["active"] and "tried" in setting
    ]
    if not found:
        return []

    def at(name: str, end: int) -> int:
        """Of those that could choose."""
        return sum(
            setting[name] == setting["tried"][name][end]
            for setting in found
            if setting["tried"][name][0] < setting["tried"][name][1]
        )

    k, strength = at("k", 1), at("strength", 1)
    cold, hot = (at("temperature", end) for end in (0, 1))
    narrow, wide = (at("sigma", end) for end in (0, 1))
    told = f"""Of {len(found)} active memories, those of the part on layers too, {k} chose the
largest k that was tried (all rows, where there are fewer), {strength} the largest strength,
{cold} the least and {hot} the greatest temperature, {narrow} the least and {wide} the greatest
sigma. The grids were widened once, because settings that had been chosen lay at the edges of
narrower ones; by then some answers to the questions with wider grids had been seen, too.
"""
    return [told]


def _settings(figures: Any) -> list[Mapping[str, Any]]:
    lines = figures["methods"] if isinstance(figures, dict) else figures
    return [line["setting"] for line in lines if "active" in line["setting"]]


def _points(group: str, what: str, line: Mapping[str, Any]) -> Compared:
    return Compared(
        group, what, "points", 100 * line["gain"], 100 * line["standard_error"],
        line["setting"]["active"],
    )  # fmt: skip


def _token(line: Mapping[str, Any]) -> Compared:
    group, active = f"Brown words, {line['method']}", line["setting"]["active"]
    if line["chosen_by"] == "log_loss":
        gain, error = line["nats_gained"], line["nats_error"]
        return Compared(group, "chosen by log loss", "nats", gain, error, active)
    return _points(group, "chosen by accuracy", line)


def summary(report: Mapping[str, Any]) -> str:
    """Write the section: counts, a row for every group, and every loss."""
    lines = comparisons(report)
    better, off, worse, beyond = _counts(lines)
    groups = dict.fromkeys(line.group for line in lines)
    rows = [_row(group, [line for line in lines if line.group == group]) for group in groups]
    head = ["data and base", "comparisons", "mean gain", "better", "off", "worse",
            "beyond error", "least gain"]  # fmt: skip
    return f"""## Never worse than the base?

Of {len(lines)} comparisons below, ResMem is better by more than two standard errors in {better},
turned itself off in {off}, and is worse in {worse}, in {beyond} of them by more than two standard
errors. Next tokens are counted in the measure by which their settings were chosen.

{table(head, rows, texts=1)}

*Better* and *beyond error*: by more than two standard errors of the paired difference. *Off*: the
memory turned itself off, so nothing differs.

{_losses(lines)}
"""


def _counts(lines: Sequence[Compared]) -> tuple[int, int, int, int]:
    """Significantly better, off, worse, significantly worse."""
    return (
        sum(line.ratio > 2 for line in lines),
        sum(not line.active for line in lines),
        sum(line.gain < 0 for line in lines),
        sum(line.ratio < -2 for line in lines),
    )


def _row(group: str, lines: Sequence[Compared]) -> list[Any]:
    least = min(lines, key=lambda line: line.gain)
    units = {line.unit for line in lines}
    mean = "" if len(units) > 1 else _told(sum(each.gain for each in lines) / len(lines), *units)
    told = f"{_told(least.gain, least.unit)} ± {_size(least.error, least.unit)}"
    return [group, len(lines), mean, *_counts(lines), told]


def _losses(lines: Sequence[Compared]) -> str:
    """Every comparison in which the memory lost, the most certain loss first."""
    lost = sorted((line for line in lines if line.gain < 0), key=lambda line: line.ratio)
    if not lost:
        return "There is no loss."
    rows = [
        [line.group, line.what, _told(line.gain, line.unit), _size(line.error, line.unit),
         f"{line.ratio:+.1f}"]
        for line in lost
    ]  # fmt: skip
    head = ["data and base", "which", "gain", "standard error", "ratio"]
    return f"Every loss, the most certain first:\n\n{table(head, rows, texts=2)}"


def _told(gain: float, unit: str) -> str:
    if unit == "nats":
        return f"{gain:+.4f} nats"
    return f"{round(gain, 2) + 0.0:+.2f}"  # no minus zero


def _size(error: float, unit: str) -> str:
    return f"{error:.4f}" if unit == "nats" else f"{error:.2f}"
