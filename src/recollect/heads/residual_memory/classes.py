"""What a residual memory of classes keeps, and what it makes of it: no public verbs here."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recollect.errors import DimensionMismatch, InvalidLabel, InvalidParameter
from recollect.heads.inputs import check_labels
from recollect.heads.residual_memory.bases import Base, wrap
from recollect.heads.residual_memory.estimator import Asked, ResidualEstimator
from recollect.heads.residual_memory.folds import logits_out_of_fold
from recollect.heads.residual_memory.layout import FORM, Layout, choose_entries
from recollect.heads.residual_memory.recalled import (
    TRUTH,
    Named,
    Recalled,
    Residuals,
    as_column,
    class_table,
    lowered,
    name_classes,
    to_codes,
)
from recollect.memory.memory import Memory
from recollect.readout.kernel import check_above_zero, soften
from recollect.types import Codes, Doubles, Floats, Mask, ValueKind

# Below this largest residual nothing that is added can change an answer.
FITTED = 0.01


class ClassEstimator(ResidualEstimator):
    """A trained classifier, and a memory of what it got wrong.

    Final classes set what follows in their constructor.
    """

    _task = "classify"
    temperature: float
    entries: int | Literal["auto"] | None
    classes: ArrayLike | None

    @property
    def _base(self) -> Base:
        return wrap(self.base, self.embedding, "classify")

    @property
    def _kind(self) -> ValueKind:
        return "label" if self.entries == 0 and self.entries is not False else "vector"

    def _check_options(self) -> None:
        super()._check_options()
        check_above_zero("temperature", self.temperature)
        choose_entries(self.entries, 2)

    def _heat(self) -> float:
        """Temperature in use: a memory that is turned off leaves the base as it is, at 1."""
        heat = check_above_zero("temperature", self.temperature)
        return heat if self.strength != 0 else 1.0

    def _check_targets(self, X: Any, y: Any) -> NDArray[Any]:
        return as_column(check_labels(self, X, y))

    @property
    def _given_classes(self) -> NDArray[Any] | None:
        """What the base, or who made the head, calls the base's columns; None for 0, 1, ..."""
        named = self._base.classes if self.classes is None else self.classes
        if named is None:
            return None
        column = np.asarray(named)
        if not column.size:
            raise InvalidParameter("there are no classes", expected="one label for each column",
                                   got=repr(named), remedy="Leave classes= out.")  # fmt: skip
        known = as_column(check_labels(self, np.atleast_1d(column), column))
        if len(set(known.tolist())) < len(known):
            raise InvalidParameter(
                "a class is named twice",
                expected="one label for each column of the base",
                got=", ".join(map(str, known.tolist()[:10])),
                remedy="Name each column once, or leave classes= out for 0, 1, ...",
            )
        return known

    def _known_classes(self, width: int | None) -> NDArray[Any]:
        """Labels of the base's columns, int64 or an object array of str."""
        named = self._given_classes
        if named is None:
            return np.arange(self._width() if width is None else width)
        return named

    def _width(self) -> int:
        """Number of columns of the base, as the memory records it."""
        recorded = (self._recall().encoder_spec or {}).get("classes")
        if recorded is not None:
            return len(recorded) if isinstance(recorded, list) else int(recorded)
        return int(self.memory_.value_dim or len(self.memory_.labels))

    def _facts(self, outputs: NDArray[Any]) -> dict[str, Any]:
        classes = self._known_classes(outputs.shape[1])
        counted = np.array_equal(classes, np.arange(len(classes)))
        layout = Layout(len(classes), choose_entries(self.entries, len(classes)))
        facts = {
            "head": "residual memory",
            "classes": len(classes) if counted else classes.tolist(),
            "entries": layout.entries,
        }
        return facts | {"form": FORM} if layout.entries else facts

    @property
    def _reserved(self) -> frozenset[str]:
        return frozenset({TRUTH})

    def _form_of_others(self, memory: Memory) -> dict[str, Any]:
        """All logits, or labels alone: rows that keep some logits are recorded as such."""
        return self._recording | {"entries": 0 if memory.value == "label" else None}

    def _layout(self, memory: Memory) -> Layout:
        """How the rows of a memory keep logits: as it records, else by what they hold."""
        spec = memory.encoder_spec or {}
        if "classes" in spec:
            count = spec["classes"]
            classes = len(count) if isinstance(count, list) else int(count)
            return Layout(classes, spec["entries"], spec.get("form", 1))
        if memory.value == "label":
            return Layout(len(memory.labels), 0)
        return Layout(int(memory.value_dim or 0), None)

    def _columns(self, asked: Asked, y: Any, *, anew: bool) -> tuple[NDArray[Any], dict[str, Any]]:
        labels = self._check_targets(asked.embedding, y)
        self._check_outputs(asked.outputs)
        known = self._known_classes(asked.outputs.shape[1])
        codes = self._codes_of(labels, known, anew=anew)
        layout = Layout(len(known), choose_entries(self.entries, len(known)))
        if layout.entries == 0:
            return labels, {}
        layout.check_temperature(check_above_zero("temperature", self.temperature))
        if anew:
            self._warn_if_fitted(asked.outputs, codes)
        return layout.pack(asked.outputs, codes), {TRUTH: labels.tolist()}

    def _codes_of(self, labels: NDArray[Any], known: NDArray[Any], *, anew: bool) -> Codes:
        """The base's column of each label; -1 for a class that only rows have."""
        self._check_same_kind(labels, known)
        codes = to_codes(labels, known)
        if anew and (codes < 0).any():
            raise InvalidLabel(
                "the base and the rows have different classes",
                expected=f"labels among the {len(known)} of the base",
                got=", ".join(map(str, np.unique(labels[codes < 0])[:5].tolist())),
                remedy="Teach new classes with partial_fit, after fit.",
            )
        return codes

    def _check_same_kind(self, labels: NDArray[Any], known: NDArray[Any]) -> None:
        if (labels.dtype == object) != (known.dtype == object):
            raise InvalidLabel(
                "the base and the rows name their classes in different ways",
                expected=f"labels such as {known.tolist()[0]!r}",
                got=f"{labels.tolist()[0]!r}",
                remedy="Give the labels that the base was trained with.",
            )

    def _check_outputs(self, outputs: NDArray[Any]) -> None:
        named = self._given_classes
        expected = None if named is None else len(named)
        if expected is None and "memory_" in self.__dict__ and not self._is_stale():
            expected = self._layout(self.memory_).classes
        fits = outputs.ndim == 2 and outputs.shape[1] == (expected or max(1, outputs.shape[1]))
        if not fits:
            raise DimensionMismatch(
                "the base does not give one logit for each class",
                expected=f"(rows, {expected or 'classes'})",
                got=str(outputs.shape),
                remedy="Name the classes of its columns with classes=.",
            )

    def _warn_if_fitted(self, outputs: NDArray[Any], codes: Codes) -> None:
        right = soften(outputs, self._heat())[np.arange(len(codes)), codes]
        if 1.0 - float(right.min()) < FITTED:
            warnings.warn(
                "the base gets nothing wrong on these rows, so the memory will change nothing; "
                "residuals='oof' keeps what it gets wrong on rows it has not seen",
                stacklevel=5,
            )

    def _check_fits(self, memory: Memory) -> None:
        if memory.value not in {"label", "vector"} or memory.metric != self.metric:
            raise InvalidParameter(
                "the memory does not hold what a residual memory reads",
                expected="value='vector' (or 'label' for entries=0), metric='euclidean'",
                got=f"value={memory.value!r}, metric={memory.metric!r}",
                remedy="Start a new memory: pass a path where there is none yet.",
            )
        spec = memory.encoder_spec or {}
        if spec.get("form", FORM) not in range(1, FORM + 1):
            raise InvalidParameter(
                "the rows keep logits in a form of a later version",
                expected=f"form 1 to {FORM}",
                got=repr(spec["form"]),
                remedy="Open them with the version that wrote them, or a later one.",
            )
        recorded = spec.get("classes")
        if recorded is None and "head" in spec:
            raise InvalidParameter(
                "the rows are of a regressor",
                expected="the memory of a ResidualMemoryClassifier",
                got="that of a ResidualMemoryRegressor",
                remedy="Start a new memory: pass a path where there is none yet.",
            )
        named = self._given_classes
        if recorded is None or named is None:
            return
        known = named.tolist()
        if known != (recorded if isinstance(recorded, list) else list(range(recorded))):
            raise InvalidParameter(
                "the rows are of a base with other classes",
                expected=f"the {len(known)} classes of this base",
                got=f"a memory of {recorded if isinstance(recorded, int) else len(recorded)}",
                remedy="Use the base that the memory was taught with, or start a new one.",
            )

    def _named(self, rows: Recalled) -> Named:
        """The classes of the base and of rows."""
        named: Named | None = self._cache.get("named")
        if named is None or named.version != rows.version:
            named = name_classes(rows, self._known_classes(None))
            self._cache["named"] = named
        return named

    def _labels(self) -> NDArray[Any]:
        """``classes_``, text as objects."""
        return self._steady(lambda: self._named(self._rows())).labels

    def _truth(self, keys: Any, y: Any, classes: NDArray[Any]) -> Codes:
        labels = self._check_targets(keys, y)
        self._check_same_kind(labels, classes)
        return to_codes(labels, classes)

    def _own_base(self, rows: Recalled, places: NDArray[np.intp], heat: float) -> Doubles:
        """What the base said of rows of the memory, as far as they keep it."""
        layout = self._layout(self.memory_)
        if layout.entries == 0:
            raise InvalidParameter(
                "the rows keep labels only, not what the base said of them",
                expected="X and y set aside for tuning",
                got="none",
                remedy="Pass rows that are neither in the memory nor the base's training rows.",
            )
        shares, columns = layout.unpack(rows.values[places], heat, rows.ids[places])
        if columns is not None:
            full = np.zeros((len(shares), layout.classes))
            np.put_along_axis(full, columns, shares, axis=1)
            shares = full
        return self._widened(shares, self._named(rows))

    def _out_of_fold(self, X: Any, y: Any, keys: Floats) -> Doubles:
        labels, known = self._check_targets(keys, y), self._given_classes
        if known is not None:
            self._codes_of(labels, known, anew=True)
        return logits_out_of_fold(self.base, X, y, self.folds)

    def _queries(self, X: Any, embedding: Any, outputs: Any) -> Asked:
        self._check_options()
        self._recall()
        asked = self._asked_of(X, embedding, outputs, keys=self.strength != 0)
        self._check_outputs(asked.outputs)
        return asked

    def _uncertain(self, base: Doubles) -> Mask:
        """Which queries the memory is searched for."""
        if self.strength == 0:
            return np.zeros(len(base), bool)
        return np.ones(len(base), bool) if self.gate is None else base.max(axis=1) < self.gate

    def _scores(self, asked: Asked) -> Doubles:
        """Scores of every class, ``(queries, classes)``; inside :meth:`_steady`."""
        base = soften(asked.outputs, self._heat())
        scores, wanted = self._widened(base, self._named(self._rows())), self._uncertain(base)
        if not wanted.any():
            return scores
        everyone = bool(wanted.all())
        near = self._find(asked.embedding if everyone else asked.embedding[wanted])
        shares, table = self._shares(near), self._table(near.rows)
        some = lowered(scores if everyone else scores[wanted], shares, table)
        table.add(some, shares, near.places)
        if everyone:
            return some
        scores[wanted] = some
        return scores

    def _widened(self, base: Doubles, named: Named) -> Doubles:
        """The base's probabilities, with a 0 for every new class."""
        wide = np.zeros((len(base), len(named.labels)))
        wide[:, : base.shape[1]] = base
        return wide

    def _table(self, rows: Recalled, temperature: float | None = None) -> Residuals:
        """What each row adds, at the head's temperature or at another."""
        heat = self._heat() if temperature is None else temperature
        known: Residuals | None = self._cache.get("table")
        if known is None or (known.version, known.temperature) != (rows.version, heat):
            known = class_table(rows, self._named(rows), self._layout(self.memory_), heat)
            self._cache["table"] = known
        return known
