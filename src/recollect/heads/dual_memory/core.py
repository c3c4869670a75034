"""The workings of the dual memory: rows in, derived state kept up to date, answers out."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recollect.encoders.batching import encode_all
from recollect.errors import (
    DimensionMismatch,
    DuplicateIds,
    InvalidLabel,
    InvalidParameter,
    UnknownIds,
)
from recollect.heads.abstention import Promise, check_promise
from recollect.heads.dual_memory.augmentation import augmented
from recollect.heads.dual_memory.columns import (
    check_first_views,
    check_views,
    counted_up,
    shot_columns,
    under_names,
    with_names,
)
from recollect.heads.dual_memory.derived import Derived, one_at_a_time
from recollect.heads.dual_memory.evidence import explain_one
from recollect.heads.dual_memory.fusion import Members, fuse, member_weights
from recollect.heads.dual_memory.names import (
    check_class_names,
    check_names,
    check_width,
    embed_names,
    require_names,
)
from recollect.heads.dual_memory.observation import Holders, Observation
from recollect.heads.dual_memory.offsets import Offsets
from recollect.heads.dual_memory.parts import (
    PART,
    SEEN,
    SERIAL,
    TEXT,
    VIEW,
    Names,
    parts_with,
    read_parts,
)
from recollect.heads.dual_memory.rejection import refused
from recollect.heads.dual_memory.settings import check_options, check_weights
from recollect.heads.dual_memory.state import Plan, State
from recollect.heads.dual_memory.training import Training, check_askable
from recollect.heads.dual_memory.tuning import Counts, LeftOut, codes_of, leave_out
from recollect.heads.inputs import NotFitted, as_text
from recollect.memory import checks
from recollect.memory.schema import Configuration
from recollect.readout.attention import unit
from recollect.readout.novelty import check_rate
from recollect.types import Codes, Doubles, Explanation, Floats, Ids, Label

# Pictures answered at once, so that what is held stays small.
_BLOCK = 2048


class DualMemory(Derived):
    """What :class:`~recollect.heads.dual_memory.classifier.DualMemoryClassifier` is built on."""

    # -- teaching ------------------------------------------------------------------------------

    @one_at_a_time
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
            if X is None and y is None:
                names = require_names(names)
                keys, labels = names.vectors[:0], np.empty(0, object)
                self.n_features_in_ = names.vectors.shape[1]
            else:
                keys = self._keys(X, reset=not known)
                labels = self._check_targets(X, y)
            state = self._current() if known else None
            first = None if state is not None and state.named else names
            self._check_classes(labels, names, state, keys.shape[1])
            if names is not None:
                check_width(names, keys.shape[1])
            columns = shot_columns(first, len(keys), sources, metadata)
            both, values = under_names(first, keys, labels)
            checked = {**columns, "ids": None if ids is None else checks.check_ids(ids, len(keys))}
            before = {**checked, "ids": None}  # how many there are with names is known below
            self._rehearse(state, names, keys, labels, checked["ids"])
            with self._memory_to_teach(both, values, before, anew=anew) as memory:
                self._check_fits(memory)
                columns["ids"] = with_names(checked["ids"], first, memory)
                taught = (memory.replace if anew else memory.add)(both, values, **columns)
                self._adopt(memory)
        self._taught = [*earlier, taught[len(taught) - len(keys) :]]
        if anew:
            self._current()  # learns offsets now, where there are any to learn
        return self

    def _rehearse(
        self, state: State | None, names: Names | None, keys: Any, labels: Any, ids: Ids | None
    ) -> None:
        """Learn the offsets that these shots will teach: if that fails, nothing was written."""
        if isinstance(self.offsets, Training) and len(keys):
            parts = None if state is None else state.parts
            stored = self._checked(keys)
            future = parts_with(parts, names, stored, labels.tolist(), ids)
            self._learned(future, check_options(self))

    def _check_classes(
        self, labels: NDArray[Any], names: Names | None, state: State | None, dim: int
    ) -> None:
        """Refuse shots of classes without a name, where there are names, or without offsets."""
        earlier: list[Label] = [] if state is None else state.parts.classes
        named: list[Label] | None = None if names is None else names.labels
        if state is not None and state.named:
            named = earlier
        self._require_offsets(len({*labels.tolist(), *earlier, *(named or [])}), dim)
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
            names = self._given_names()
            if names is not None and not self._current().named:
                # Names were given for a memory of shots that holds none.
                check_width(names, self.memory_.dim)
                self._writable().add(names.vectors, names.labels, metadata={PART: TEXT})
            return
        if self._given_names() is None:
            self._recall()
        self._teach_shots(None, None, anew=False, ids=None, sources=None, metadata=None)

    @one_at_a_time
    def _add_class(self, name: Any, text_feature: Any, prompts: Any) -> None:
        self._check_options()
        label = check_class_names([name])[0]
        names = self._given_names()
        if self.__sklearn_is_fitted__() or names is None:
            parts = self._current().parts
            classes, dim, named = parts.classes, self.memory_.dim, parts.text is not None
        else:
            classes, dim, named = names.labels, names.vectors.shape[1], True
        if not named:
            raise InvalidParameter(
                "this memory has no names", expected="text features or class names",
                got="shots alone", remedy="Teach shots of the new class with partial_fit.",
            )  # fmt: skip
        if label in classes:
            raise InvalidLabel(
                "there is such a class", expected="a new name", got=repr(label),
                remedy="Teach it shots with partial_fit, or remove_class it first.",
            )  # fmt: skip
        if text_feature is None:
            encoder = self._text_encoder()
            wording = self.prompts if prompts is None else prompts
            text_feature = embed_names([label], wording, encoder)[0]
        vector = check_names([text_feature], [label])
        check_width(vector, dim)
        self._require_offsets(len(classes) + 1, dim)
        self._require_kind(label, classes)
        self._begin()
        self._writable().add(vector.vectors, [label], metadata={PART: TEXT})

    def _require_kind(self, label: Label, classes: list[Label]) -> None:
        if {type(each) for each in classes} - {type(label)}:
            raise InvalidLabel(
                "names are all text or all integers", expected=f"one like {classes[0]!r}",
                got=repr(label), remedy="Write it like the others.",
            )  # fmt: skip

    @one_at_a_time
    def _remove_class(self, name: Any) -> None:
        parts = self._current().parts
        named = isinstance(name, str | int | np.integer) and name in parts.classes
        if not named or len(parts.classes) == 1:
            raise InvalidLabel(
                "this class cannot be taken out",
                expected="one of at least two classes",
                got=f"{name!r:.80}",
                remedy="classes_ lists them.",
            )
        self._require_offsets(len(parts.classes) - 1, self.memory_.dim)
        self._begin()
        parts = self._current().parts
        code = parts.classes.index(name)
        ids = [*parts.shot_ids[parts.codes == code], *parts.text_ids[code : code + 1]]
        self._writable().remove(np.array([row for row in ids if row >= 0], np.int64))

    @one_at_a_time
    def _forget(self, ids: ArrayLike) -> None:
        state = self._current()
        parts, wanted = state.parts, checks.check_ids(ids)
        if np.isin(wanted, parts.text_ids).any():
            raise InvalidParameter(
                "names are not forgotten row by row", expected="shots or observed pictures",
                got="the row of a name", remedy="Use remove_class(name).",
            )  # fmt: skip
        self._refuse_views(state, wanted)
        if parts.text is None:
            left = np.unique(parts.codes[~np.isin(parts.shot_ids, wanted)])
            self._require_offsets(len(left), self.memory_.dim)
        memory = self._writable()
        memory.remove(np.concatenate([wanted, state.views_of(wanted)]))
        followed = bool(parts.classes) and not state.options.negative
        if followed and np.isin(wanted, state.offers.ids).all():
            with suppress(UnknownIds):  # another process has taken a row out since: built anew
                state.drop(wanted, memory)
                self._stamp(state)

    def _refuse_views(self, state: State, wanted: Ids) -> None:
        known = np.concatenate([state.parts.shot_ids, state.offers.ids])
        others = np.setdiff1d(wanted, known)
        views = others[np.isin(others, self.memory_.ids)]
        if len(views):
            raise InvalidParameter(
                "a view is not forgotten without its picture",
                expected="shots or observed pictures, as in ids_ and observed_ids_",
                got=f"row {views[0]}, a view",
                remedy="Forget the picture: its views go with it.",
            )

    @one_at_a_time
    def rows_of(self, ids: ArrayLike) -> Ids:
        """Return these rows and those of their views: all that shows an observed picture.

        Args:
            ids: Rows as listed in ``ids_`` and ``observed_ids_``.

        Returns:
            int64, for ``memory_.erase``, which takes rows out of every file.

        Raises:
            UnknownIds: One of them is not there.
        """
        wanted = checks.check_ids(ids)
        self._recall().keys(wanted)
        return np.concatenate([wanted, self._current().views_of(wanted)])

    # -- observing -----------------------------------------------------------------------------

    @one_at_a_time
    def _observe(self, X: Any, views: Any) -> Observation:
        self._check_options()
        known = self.__sklearn_is_fitted__()
        with self._width_unchanged_on_error():
            keys = self._checked(self._keys(X, reset=not known))
        others = self._views(X, keys, views)
        if known:
            self._check_dim(keys)
            self._require_classes(self._current())
        elif (names := self._given_names()) is not None:
            check_width(names, keys.shape[1])
        self._begin()
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
        classes = as_text(state.parts.classes)
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
        """Write observed pictures, each followed by all its views; returns the ids of both.

        Also views that do not count today: with other names or shots they might.
        """
        labels = np.array(state.parts.classes, object)[plan.guesses.codes]
        rows, each = keys, 1
        if views is not None:
            each = 1 + views.shape[1]
            rows = np.concatenate([keys[:, None], views], axis=1).reshape(-1, keys.shape[1])
        values = np.repeat(labels, each).tolist()
        part = ([SEEN] + [VIEW] * (each - 1)) * len(keys)
        table = self._add_pictures(rows, values, part).reshape(-1, each)
        return table[:, 0], list(table if views is None else table[:, 1:])

    def _add_pictures(self, rows: Floats, values: list[Any], part: list[str]) -> Ids:
        """Write rows of pictures under ids of our choice, which tell the pictures apart.

        Whoever else writes into this memory meanwhile may take these ids first: then the memory
        refuses them, nothing was written, and others are chosen.
        """
        memory = self._writable()
        while True:
            ids = counted_up(memory.next_id, len(rows))
            first = np.maximum.accumulate(np.where(np.array(part, object) == SEEN, ids, -1))
            with suppress(DuplicateIds):
                metadata = {PART: part, SERIAL: first.tolist()}
                return memory.add(rows, values, ids=ids, metadata=metadata)

    def _views(self, X: Any, keys: Floats, given: Any) -> Floats | None:
        if given is not None:
            views = check_views(given, keys)
            flat = self._checked(views.reshape(-1, views.shape[2]))
            check_first_views(flat.reshape(views.shape)[:, 0], keys)
            if views.shape[1] == 1 and np.array_equal(flat, keys):
                return None
            return flat.reshape(views.shape)
        if self.encoder is None or self.views == 1:
            return None
        made = augmented(X, self.views - 1, style=self.augmentation, seed=self.seed)
        others = encode_all(self.encoder, made).keys.reshape(len(keys), self.views - 1, -1)
        return np.concatenate([keys[:, None], others], axis=1)

    # -- asking --------------------------------------------------------------------------------

    @one_at_a_time
    def _answers(self, X: Any) -> tuple[Doubles, NDArray[Any]]:
        """Probabilities and the classes they belong to."""
        state, x = self._asked_about(X)
        return self._said(state, x), as_text(state.parts.classes)

    def _said(self, state: State, x: Floats) -> Doubles:
        blocks = (x[start : start + _BLOCK] for start in range(0, len(x), _BLOCK))
        return np.concatenate([self._fused(state.members(some), state) for some in blocks])

    @one_at_a_time
    def _labels(self, X: Any, abstain: float | None, promise: Promise) -> NDArray[Any]:
        """The most probable labels, None where it is better not to answer."""
        rate = None if abstain is None else check_rate(abstain)
        check_promise(promise)
        state, x = self._asked_about(X)
        probability = self._said(state, x)
        labels = as_text(state.parts.classes)[probability.argmax(axis=1)]
        if rate is None:
            return np.asarray(labels)
        own = self._shots_left_out()
        answers = self._fused(own.members, state)
        some = labels.astype(object)
        some[refused(state.novelty(x), probability, own, answers, rate, promise)] = None
        return np.asarray(some)

    @one_at_a_time
    def members(self, X: Any) -> Members:
        """Return what text, dynamic and static memory say, each by itself; nothing is written."""
        state, x = self._asked_about(X)
        return state.members(x)

    @one_at_a_time
    def fused(self, members: Members) -> Doubles:
        """Weigh members by the weights and the fusion that are set."""
        self._check_options()
        return self._fused(members, self._current())

    @one_at_a_time
    def slot_ids(self) -> Holders:
        """Return which observed picture holds which dynamic slot now."""
        state = self._current()
        slots, offers = state.slots, state.offers
        place = {row: at for at, row in enumerate(offers.ids.tolist())}
        sure = np.full(slots.ids.shape, np.nan)
        for code, slot in np.argwhere(slots.ids >= 0).tolist():
            sure[code, slot] = offers.entropy[place[int(slots.ids[code, slot])]]
        return Holders(slots.ids.copy(), sure, slots.count.copy())

    def derived_bytes(self) -> int:
        """Bytes of the arrays that are derived from the rows to answer fast."""
        return self._current().bank.nbytes

    @one_at_a_time
    def left_out(self) -> tuple[Members, Codes, Counts]:
        """Ask the shots about themselves; see ``tuning.leave_out``."""
        own = self._shots_left_out()
        return own.members, own.truth, self._current().counts()

    def _shots_left_out(self) -> LeftOut:
        """What is said of the shots while they are left out, kept until something changes."""
        state = self._current()
        moment, kept = self._kept[0], self.__dict__.get("_own")
        if kept is not None and moment is not None and kept[0] == moment:
            own: LeftOut = kept[1]
            return own
        parts = read_parts(self.memory_, self._given_names(), self.memory_.dim)
        own = leave_out(parts, state.options, self._learned)
        self._own = (moment, own)
        return own

    @one_at_a_time
    def asked(self, X: Any, y: Any) -> tuple[Members, Codes, Counts]:
        """Ask about pictures whose labels are known; see ``left_out``."""
        state, x = self._asked_about(X)
        codes = codes_of(state.parts.classes, self._check_targets(X, y))
        return state.members(x), codes, state.counts()

    @one_at_a_time
    def _learn_offsets(self, X: Any, y: Any, training: Training | None) -> Offsets:
        how = check_askable(training)
        state, x = self._asked_about(X)
        codes = codes_of(state.parts.classes, self._check_targets(X, y))
        return self._learned_from(x, codes, state, how)

    @one_at_a_time
    def _novelty(self, X: Any) -> Doubles:
        state, x = self._asked_about(X)
        return state.novelty(x)

    @one_at_a_time
    def _explain(self, X: Any) -> list[Explanation]:
        def ask() -> list[Explanation]:
            """One explanation a picture, all of one state."""
            state, x = self._asked_about(X)
            return [self._explain_one(x[row : row + 1], state) for row in range(len(x))]

        return self._at_once(ask) if self.__sklearn_is_fitted__() else ask()

    def _explain_one(self, x: Floats, state: State) -> Explanation:
        members = state.members(x)
        probability = self._fused(members, state)[0]
        shares = self._shares(members, state)[:, 0]
        return explain_one(self.memory_, state, x, members, shares, probability)

    def _asked_about(self, X: Any) -> tuple[State, Floats]:
        self._check_options()
        if not self.__sklearn_is_fitted__() and self._lives_here() and self._given_names():
            self._begin()
        self._recall()
        keys = self._checked(self._keys(X))
        self._check_dim(keys)
        state = self._current()
        self._require_classes(state)
        return state, unit(keys)

    def _require_classes(self, state: State) -> None:
        if not state.parts.classes:
            raise NotFitted(
                "no class is left", expected="a name or a shot", got="observed pictures alone",
                remedy="Teach shots with partial_fit; what was observed is still there.",
            )  # fmt: skip

    def _fused(self, members: Members, state: State, held: Doubles | None = None) -> Doubles:
        shares = self._shares(members, state, held)
        logarithms, temperature = self.fusion == "logits", float(self.temperature)
        return fuse(members, shares, logarithms=logarithms, temperature=temperature)

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
