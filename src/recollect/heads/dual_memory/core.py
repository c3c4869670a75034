"""The workings of the dual memory: rows in, derived state kept up to date, answers out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recollect.encoders.batching import encode_all
from recollect.errors import (
    DimensionMismatch,
    InvalidLabel,
    InvalidMetadata,
    InvalidParameter,
    LengthMismatch,
)
from recollect.heads.dual_memory.augmentation import augmented
from recollect.heads.dual_memory.derived import Derived
from recollect.heads.dual_memory.evidence import explain_one
from recollect.heads.dual_memory.fusion import Members, fuse, member_weights
from recollect.heads.dual_memory.names import (
    check_class_names,
    check_width,
    embed_names,
)
from recollect.heads.dual_memory.observation import Holders, Observation
from recollect.heads.dual_memory.parts import (
    PART,
    SEEN,
    SERIAL,
    SHOT,
    TEXT,
    VIEW,
    Names,
    read_parts,
)
from recollect.heads.dual_memory.settings import check_weights
from recollect.heads.dual_memory.state import Plan, State
from recollect.heads.dual_memory.tuning import codes_of, leave_out
from recollect.memory import checks
from recollect.memory.schema import Configuration
from recollect.readout.attention import unit
from recollect.types import Codes, Doubles, Explanation, Floats, Ids, Label

# Pictures answered at once, so that what is held stays small.
_BLOCK = 2048
_RESERVED = (PART, SERIAL)


class DualMemory(Derived):
    """What :class:`~recollect.heads.dual_memory.classifier.DualMemoryClassifier` is built on."""

    # -- teaching ------------------------------------------------------------------------------

    def _teach_shots(
        self,
        X: Any,
        y: Any,
        *,
        anew: bool,
        ids: ArrayLike | None,
        sources: Any,
        metadata: Mapping[str, Any] | None,
    ) -> Self:
        self._check_options()
        known = not anew and self.__sklearn_is_fitted__()
        earlier = self._taught if known else []
        names = self._given_names()
        with self._width_unchanged_on_error():
            if X is None and y is None and names is not None:
                keys, labels = names.vectors[:0], np.empty(0, object)
                self.n_features_in_ = names.vectors.shape[1]
            else:
                keys = self._keys(X, reset=not known)
                labels = self._check_targets(X, y)
            first = names if not (known and self._current().named) else None
            self._check_known(labels, names, known=known)
            if names is not None:
                check_width(names, keys.shape[1])
            columns = _shot_columns(first, len(keys), ids, sources, metadata)
            both, values = _under_names(first, keys, labels)
            with self._memory_to_teach(both, values, columns, anew=anew) as memory:
                self._check_fits(memory)
                taught = (memory.replace if anew else memory.add)(both, values, **columns)
                self._adopt(memory)
        self._taught = [*earlier, taught[len(taught) - len(keys) :]]
        if anew:
            self._current()  # learns offsets now, where there are any to learn
        return self

    def _check_known(self, labels: NDArray[Any], names: Names | None, *, known: bool) -> None:
        """Refuse shots of classes without a name, where there are names."""
        named: list[Label] | None = None if names is None else names.labels
        if known and self._current().named:
            named = self._current().parts.classes
        unknown = [] if named is None else sorted({*labels.tolist()} - {*named}, key=str)
        if unknown:
            raise InvalidLabel(
                "an example is of a class that has no name",
                expected="one of the class names",
                got=", ".join(repr(each) for each in unknown[:5]),
                remedy="Name it first: add_class(name, text_feature).",
            )

    def _begin(self) -> None:
        """Make sure that there is a memory and that its names are written."""
        if self.__sklearn_is_fitted__():
            if not self._current().named and self._given_names() is not None:
                self._write_names()
            return
        if self._given_names() is None:
            self._recall()
        self._teach_shots(None, None, anew=False, ids=None, sources=None, metadata=None)

    def _write_names(self) -> None:
        """Write given names into a memory of shots that holds none."""
        names = self._given_names()
        assert names is not None
        check_width(names, self.memory_.dim)
        columns = _shot_columns(names, 0, None, None, None)
        self._writable().add(names.vectors, names.labels, metadata=columns["metadata"])

    def _add_class(self, name: Any, text_feature: Any, prompts: Any) -> None:
        self._check_options()
        self._begin()
        state = self._current()
        label = check_class_names([name])[0]
        if not state.named:
            raise InvalidParameter(
                "this memory has no names", expected="text features or class names",
                got="shots alone", remedy="Teach shots of the new class with partial_fit.",
            )  # fmt: skip
        if label in state.parts.classes:
            raise InvalidLabel("there is such a class", expected="a new name", got=repr(label))
        if text_feature is None:
            encoder = self._text_encoder()
            wording = self.prompts if prompts is None else prompts
            text_feature = embed_names([label], wording, encoder)[0]
        vector = np.asarray(text_feature)[None]
        self._writable().add(vector, [label], metadata={PART: TEXT})

    def _remove_class(self, name: Any) -> None:
        parts = self._current().parts
        if name not in parts.classes or len(parts.classes) == 1:
            raise InvalidLabel(
                "this class cannot be taken out",
                expected="one of at least two classes",
                got=f"{name!r:.80}",
                remedy="classes_ lists them.",
            )
        code = parts.classes.index(name)
        ids = [*parts.shot_ids[parts.codes == code], *parts.text_ids[code : code + 1]]
        self._writable().remove(np.array([row for row in ids if row >= 0], np.int64))

    def _forget(self, ids: ArrayLike) -> None:
        state = self._current()
        wanted = checks.check_ids(ids)
        if np.isin(wanted, state.parts.text_ids).any():
            raise InvalidParameter(
                "names are not forgotten row by row", expected="shots or observed pictures",
                got="the row of a name", remedy="Use remove_class(name).",
            )  # fmt: skip
        memory = self._writable()
        memory.remove(np.concatenate([wanted, state.views_of(wanted)]))
        if np.isin(wanted, state.offers.ids).all() and not state.options.negative:
            state.drop(wanted, memory)
            self._stamp(state)

    # -- observing -----------------------------------------------------------------------------

    def _observe(self, X: Any, views: Any) -> Observation:
        self._check_options()
        known = self.__sklearn_is_fitted__()
        with self._width_unchanged_on_error():
            keys = self._checked(self._keys(X, reset=not known))
        others = self._views(X, keys, views)
        self._begin()
        self._check_dim(keys)
        state = self._current()
        plan = state.plan(keys, others)
        ids, view_ids = self._write_seen(state, plan, keys, others)
        against, cosines, slots, held = state.take(plan, ids, view_ids)
        self._stamp(state)
        static = None
        if state.bank.shots.any():
            static, _ = state.bank.scores(
                state.bank.queries(plan.x), state.options.beta, dynamic=False
            )
        members = state.as_members(plan.x, cosines, static, against)
        probability = self._fused(members, state, held)
        classes = np.array(state.parts.classes)
        return Observation(
            labels=classes[probability.argmax(axis=1)],
            probability=probability,
            members=members,
            pseudo_labels=classes[plan.guesses.codes],
            entropy=plan.guesses.entropy,
            slots=slots,
            held=held,
            ids=ids,
        )

    def _write_seen(
        self, state: State, plan: Plan, keys: Floats, views: Floats | None
    ) -> tuple[Ids, list[Ids]]:
        """Write observed pictures, each followed by its views; returns the ids of both."""
        classes, serial = state.parts.classes, state.next_serial
        rows, labels, parts, serials = [], [], [], []
        for place, code in enumerate(plan.guesses.codes.tolist()):
            some = keys[place : place + 1]
            if views is not None:
                some = np.concatenate([some, views[place, plan.kept[place]]])
            rows.append(some)
            labels += [classes[code]] * len(some)
            parts += [SEEN] + [VIEW] * (len(some) - 1)
            serials += [serial + place] * len(some)
        metadata = {PART: parts, SERIAL: serials}
        taught = self._writable().add(np.concatenate(rows), labels, metadata=metadata)
        stops = np.cumsum([len(some) for some in rows])
        each = np.split(taught, stops[:-1])
        ids = np.array([some[0] for some in each], np.int64)
        return ids, [some if views is None else some[1:] for some in each]

    def _views(self, X: Any, keys: Floats, given: Any) -> Floats | None:
        if given is not None:
            views = np.asarray(given)
            if views.ndim != 3 or views.shape[2] != keys.shape[1]:
                raise DimensionMismatch(
                    "views have the wrong shape",
                    expected=f"(pictures, views, {keys.shape[1]})",
                    got=str(views.shape),
                )
            if len(views) != len(keys) or not views.shape[1]:
                raise LengthMismatch(
                    "there must be views of every picture", expected=len(keys), got=views.shape[:2]
                )
            flat = self._checked(views.reshape(-1, views.shape[2]))
            return flat.reshape(views.shape)
        if self.encoder is None or self.views == 1:
            return None
        made = augmented(X, self.views - 1, style=self.augmentation, seed=self.seed)
        others = encode_all(self.encoder, made).keys.reshape(len(keys), self.views - 1, -1)
        return np.concatenate([keys[:, None], others], axis=1)

    # -- asking --------------------------------------------------------------------------------

    def _probability(self, X: Any) -> Doubles:
        state, x = self._asked_about(X)
        blocks = (x[start : start + _BLOCK] for start in range(0, len(x), _BLOCK))
        return np.concatenate([self._fused(state.members(some), state) for some in blocks])

    def members(self, X: Any) -> Members:
        """Return what text, dynamic and static memory say, each by itself; nothing is written."""
        state, x = self._asked_about(X)
        return state.members(x)

    def fused(self, members: Members) -> Doubles:
        """Weigh members by the weights and the fusion that are set."""
        self._check_options()
        return self._fused(members, self._current())

    def slot_ids(self) -> Holders:
        """Return which observed picture holds which dynamic slot now."""
        slots, offers = self._current().slots, self._current().offers
        place = {row: at for at, row in enumerate(offers.ids.tolist())}
        sure = np.full(slots.ids.shape, np.nan)
        for code, slot in np.argwhere(slots.ids >= 0).tolist():
            sure[code, slot] = offers.entropy[place[int(slots.ids[code, slot])]]
        return Holders(slots.ids.copy(), sure, slots.count.copy())

    def derived_bytes(self) -> int:
        """Bytes of the arrays that are derived from the rows to answer fast."""
        return self._current().bank.nbytes

    def left_out(self) -> tuple[Members, Codes]:
        """Ask the shots about themselves; see ``tuning.leave_out``."""
        options = self._current().options
        parts = read_parts(self.memory_, self._given_names(), self.memory_.dim)
        return leave_out(parts, options, self._learned)

    def codes_of(self, X: Any, y: Any) -> Codes:
        """Return the class of each label; see ``tuning.codes_of``."""
        return codes_of(self._current().parts.classes, self._check_targets(X, y))

    def _novelty(self, X: Any) -> Doubles:
        state, x = self._asked_about(X)
        _, dynamic = state.bank.scores(state.bank.queries(x), state.options.beta, static=False)
        assert dynamic is not None
        return np.asarray(1.0 - dynamic.max(axis=1))

    def _explain(self, X: Any) -> list[Explanation]:
        state, x = self._asked_about(X)
        explained = []
        for one in (x[row : row + 1] for row in range(len(x))):
            members = state.members(one)
            probability = self._fused(members, state)[0]
            shares = self._shares(members, state)[:, 0]
            explained.append(explain_one(self.memory_, state, one, members, shares, probability))
        return explained

    def _asked_about(self, X: Any) -> tuple[State, Floats]:
        self._check_options()
        if not self.__sklearn_is_fitted__() and self._lives_here() and self._given_names():
            self._begin()
        self._recall()
        keys = self._checked(self._keys(X))
        self._check_dim(keys)
        return self._current(), unit(keys)

    def _fused(self, members: Members, state: State, held: Doubles | None = None) -> Doubles:
        shares = self._shares(members, state, held)
        return fuse(members, shares, logarithms=self.fusion == "logits")

    def _shares(self, members: Members, state: State, held: Doubles | None = None) -> Doubles:
        weights = check_weights(self.weights)
        counts = state.counts() if held is None else (held, state.counts()[1])
        return member_weights(members, weights, self.fusion, counts=counts, anchor=self.anchor)

    # -- checks --------------------------------------------------------------------------------

    def _checked(self, keys: Any) -> Floats:
        wide = np.asarray(keys)
        return np.asarray(checks.check_keys(wide, Configuration(dim=wide.shape[1])))

    def _check_dim(self, keys: Floats) -> None:
        if keys.shape[1] != self.memory_.dim:
            raise DimensionMismatch(
                "pictures have another width than the memory's keys",
                expected=self.memory_.dim, got=keys.shape[1],
                remedy="Use the encoder that the memory was taught with.",
            )  # fmt: skip


def _under_names(
    names: Names | None, keys: NDArray[Any], labels: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Text vectors first, then shots."""
    if names is None:
        return keys, labels
    both = np.array([*names.labels, *labels.tolist()], object)
    return np.concatenate([names.vectors, keys]), both


def _shot_columns(
    names: Names | None, shots: int, ids: Any, sources: Any, metadata: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Columns of text rows, if there are any, and shots."""
    before = 0 if names is None else len(names.labels)
    columns: dict[str, Any] = {PART: [TEXT] * before + [SHOT] * shots}
    for name, given in dict(metadata or {}).items():
        if name in _RESERVED:
            raise InvalidMetadata(
                f"the column name {name!r} is taken", expected=f"none of {', '.join(_RESERVED)}",
                got=repr(name), remedy="Choose another name.",
            )  # fmt: skip
        columns[name] = [None] * before + list(_each(name, given, shots))
    if ids is not None:
        wanted = checks.check_ids(ids, shots)
        # Names are counted up behind the ids that were given.
        text = np.arange(before) + 1 + int(wanted.max(initial=-1))
        ids = np.concatenate([text, wanted])
    if sources is not None:
        sources = [None] * before + list(_each("sources", sources, shots))
    return {"ids": ids, "sources": sources, "metadata": columns, "weights": None}


def _each(name: str, given: Any, rows: int) -> Iterator[Any]:
    if given is None or isinstance(given, str | bytes) or not hasattr(given, "__len__"):
        given = [given] * rows
    if len(given) != rows:
        raise LengthMismatch(f"{name} must have one value per row", expected=rows, got=len(given))
    return iter(given)
