"""Classify by names, a few examples, and the pictures seen so far.

After Zhang et al., "Dual Memory Networks: A Versatile Adaptation Approach for Vision-Language
Models" (CVPR 2024, arXiv 2403.17589).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin

from recollect.encoders.base import Encoder
from recollect.heads.abstention import Promise
from recollect.heads.dual_memory.core import DualMemory
from recollect.heads.dual_memory.fusion import Fusion
from recollect.heads.dual_memory.names import Prompts
from recollect.heads.dual_memory.observation import Observation
from recollect.heads.dual_memory.offsets import Offsets
from recollect.heads.dual_memory.settings import Mode
from recollect.heads.dual_memory.stream import Labels, Order
from recollect.heads.dual_memory.training import Training
from recollect.heads.dual_memory.tuning import WeighingReport, choose_temperature, tune_weights
from recollect.heads.inputs import as_text, in_our_words
from recollect.memory.memory import Memory
from recollect.types import Doubles, Explanation, Ids


class DualMemoryClassifier(ClassifierMixin, DualMemory):
    """Name pictures by class names, by a few examples, and by what was seen before.

    Three members answer: the *text* (the names alone), the *static* memory (names and labelled
    examples, called shots) and the *dynamic* memory (names, shots, and observed pictures under the
    labels they were taken for). Their probabilities are added.

    Args:
        text_features: ``(classes, dim)``, or a mapping from names to vectors: in one space with
            the pictures. None: there is no text member, or names are encoded.
        class_names: Of the rows of ``text_features``; or the names to encode. None numbers them.
        prompts: Templates with ``{}``, or name -> sentences; None takes CLIP's seven.
        memory_length: Dynamic slots of each class; the paper's 50.
        beta: How sharply a slot's weight falls with its distance; the paper's 5.5.
        weights: Of text, dynamic and static memory; :meth:`tune` chooses.
        fusion: How the weights are used. ``"fixed"``: as they are. ``"count"``: the memories count
            as the pictures they hold, the text as ``anchor``. ``"entropy"``: each member by how
            sure it is, picture by picture. ``"logits"``: logits are added instead of
            probabilities, so that a member that is sure without reason does not overrule all.
        offsets: None, learned ``Offsets``, or ``Training``: learn them from the shots.
        encoder: None: X holds features ``(rows, dim)``. Otherwise X holds pictures.
        memory: As in ``MemoryClassifier``.
        text_encoder: Encodes names; None takes the text side of an ``encoder`` of CLIP.
        mode: ``"published"``: an observed picture is labelled by the text, written, then read.
            ``"robust"``: where there are shots, labelled by text and static memory, read, then
            written; as published where there are none.
        order: Instead of the mode's: ``"write-read"``, ``"read-write"``, ``"read-others"``
            (written, then read as if its own slot were empty), or ``"auto"`` (read-write where
            there are shots, write-read where there are none).
        labels: Instead of the mode's: ``"text"`` or ``"text+static"``.
        views: How many views of a picture are encoded to label it, the picture itself included.
        view_fraction: Share of the views that is kept, at least one; the paper's 0.1.
        augmentation: How views are made: ``"augmix"`` or ``"crop"``, see ``augmentation.views``.
        scale: Of the logits; CLIP's 100.
        anchor: How many pictures a name is worth, for ``fusion="count"``.
        temperature: What the logarithms of the probabilities are divided by before these add up to
            1 again: above 1 answers are the same and less sure. :meth:`calibrate` chooses.
        trust: Dynamic slots weigh (1 - entropy / log(classes)) to this power; 0, as published,
            trusts all alike; 1 changed the dynamic memory alone by +0.0 to +0.5 points on the sets
            that were measured (``docs/reproduction/dual-memory.md``).
        threshold: Pictures whose label is less sure than this share of log(classes) are not
            written; None writes all.
        decay: Entropy that a slot gains with each picture after it, so that old ones give way.
        negative: How much speaks against classes that unsure pictures alike did not rule out, in
            logits; 0 leaves it out, TDA's 0.117 is a cautious choice. Unsure is what TDA's released
            code calls so: an entropy, in nats, of 0.2 to 0.5 times log2(classes).
        channels: In how many channels the static memory meets a picture: those in which the class
            names, or without names the means of the shots, differ most, as in APE. Text and dynamic
            memory take all. None, as in the paper's results, is all.
        channel_balance: Channels are chosen by (1 - this) times the variance over the classes less
            this times the likeness of different classes; APE's 0.7.
        seed: Of the views.

    Attributes:
        classes_: Labels, sorted.
        ids_: Rows of the shots, in the order given.
        observed_ids_: Rows of the observed pictures, in their order.
        offsets_: Learned offsets in use, or None.
        memory_: The memory: text vectors, shots and observed pictures are its rows.
        n_features_in_: Width of a key.

    ``predict`` never writes; ``observe`` does. The answer to one picture has the same bits alone
    or in any batch.

    Example:
        >>> birds = DualMemoryClassifier([[1, 0], [0, 1]], ["crow", "owl"]).fit()
        >>> birds.predict([[0.9, 0.2]]).tolist()
        ['crow']
        >>> birds.observe([[0.3, 1.0], [0.8, 0.9]]).labels.tolist()
        ['owl', 'owl']
        >>> birds.forget(birds.observed_ids_[:1]).observed_ids_.tolist()
        [3]
    """

    metric = "cosine"

    def __init__(
        self,
        text_features: ArrayLike | Mapping[Any, ArrayLike] | None = None,
        class_names: Sequence[Any] | None = None,
        prompts: Prompts | None = None,
        memory_length: int = 50,
        beta: float = 5.5,
        weights: tuple[float, float, float] = (1.0, 1.0, 1.0),
        fusion: Fusion = "fixed",
        offsets: Offsets | Training | None = None,
        encoder: Encoder | None = None,
        memory: Memory | str | Path | None = None,
        *,
        text_encoder: Encoder | None = None,
        mode: Mode = "published",
        order: Order | None = None,
        labels: Labels | None = None,
        views: int = 1,
        view_fraction: float = 0.1,
        augmentation: str = "augmix",
        scale: float = 100.0,
        anchor: float = 1.0,
        temperature: float = 1.0,
        trust: float = 0.0,
        threshold: float | None = None,
        decay: float = 0.0,
        negative: float = 0.0,
        channels: int | None = None,
        channel_balance: float = 0.7,
        seed: int = 0,
    ) -> None:
        self.text_features = text_features
        self.class_names = class_names
        self.prompts = prompts
        self.memory_length = memory_length
        self.beta = beta
        self.weights = weights
        self.fusion = fusion
        self.offsets = offsets
        self.encoder = encoder
        self.memory = memory
        self.text_encoder = text_encoder
        self.mode = mode
        self.order = order
        self.labels = labels
        self.views = views
        self.view_fraction = view_fraction
        self.augmentation = augmentation
        self.scale = scale
        self.anchor = anchor
        self.temperature = temperature
        self.trust = trust
        self.threshold = threshold
        self.decay = decay
        self.negative = negative
        self.channels = channels
        self.channel_balance = channel_balance
        self.seed = seed

    # -- teaching ------------------------------------------------------------------------------

    def fit(
        self,
        X: Any = None,
        y: Any = None,
        *,
        ids: ArrayLike | None = None,
        sources: Sequence[str | None] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Self:
        """Teach the names and these shots, and nothing else; what was observed is left behind.

        Args:
            X: Shots: features ``(rows, dim)``, or pictures. None teaches the names alone.
            y: Their labels: all text or all integers. Where there are names, each is one of them;
                classes may have any number of shots, also none.
            ids: Row ids of the shots; counted up when None.
            sources: Where each shot came from.
            metadata: Column name -> one value per shot, or one for all.

        Returns:
            The estimator.

        Raises:
            InputError: Something cannot be taught; nothing was.
            InvalidLabel: A shot of a class that has no name.
        """
        return self._teach_shots(X, y, anew=True, ids=ids, sources=sources, metadata=metadata)

    def partial_fit(
        self,
        X: Any,
        y: Any,
        classes: ArrayLike | None = None,  # noqa: ARG002 - scikit-learn's wrappers pass it
        *,
        ids: ArrayLike | None = None,
        sources: Sequence[str | None] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Self:
        """Teach these shots too; what was observed stays, as if it had come after them."""
        return self._teach_shots(X, y, anew=False, ids=ids, sources=sources, metadata=metadata)

    def observe(self, X: Any, views: Any = None) -> Observation:
        """Answer pictures one after another, and remember each under the label it is taken for.

        A batch gives what the same pictures give one by one, to the last bit.

        Args:
            X: Features ``(pictures, dim)``, or pictures.
            views: Features of views ``(pictures, views, dim)``, the first of each the picture
                itself. None: with an encoder, ``views`` views are made; without one, the picture
                is its only view.

        Returns:
            The answers, with pseudo labels and slots.

        Raises:
            InputError: A picture cannot be used; none was observed.
        """
        return self._observe(X, views)

    def forget(self, ids: ArrayLike) -> Self:
        """Take shots or observed pictures out: as if they had never been taught or observed.

        Of observed pictures only the classes they competed in are played again, and a picture they
        had displaced comes back. Without a shot, pictures are labelled anew where labels come from
        shots, and offsets are learned anew.

        Args:
            ids: Rows to forget, each once, as listed in ``ids_`` and ``observed_ids_``.

        Raises:
            UnknownIds: One of them is not there; nothing was forgotten.
            InvalidParameter: One of them is a name; ``remove_class`` takes names out.
        """
        self._forget(ids)
        return self

    def reset(self) -> Self:
        """Forget every observed picture; names and shots stay."""
        observed = self.observed_ids_
        return self.forget(observed) if len(observed) else self

    def add_class(
        self, name: Any, text_feature: ArrayLike | None = None, *, prompts: Prompts | None = None
    ) -> Self:
        """Add a class by its name; pictures observed before may be taken for it from now on.

        Args:
            name: A new label.
            text_feature: ``(dim,)``; None encodes the name.
            prompts: Instead of the estimator's own.

        Raises:
            InvalidLabel: There is such a class.
        """
        self._add_class(name, text_feature, prompts)
        return self

    def remove_class(self, name: Any) -> Self:
        """Take a class out: its name and its shots. Observed pictures are labelled anew.

        Raises:
            InvalidLabel: There is no such class, or it is the last.
        """
        self._remove_class(name)
        return self

    # -- asking --------------------------------------------------------------------------------

    def predict(
        self, X: Any, *, abstain: float | None = None, promise: Promise = "coverage"
    ) -> NDArray[Any]:
        """Return the most probable label of each picture; of equal ones the first.

        Args:
            X: Pictures.
            abstain: None answers everything. A number in (0, 1), such as 0.05, leaves pictures
                unanswered: the result then holds objects, None where there is no answer. The
                threshold comes from the shots, some left out at a time as in :meth:`tune`.
            promise: What ``abstain`` promises of pictures like the shots. ``"coverage"``: at most
                this share stays unanswered, those of the largest :meth:`novelty`. ``"error"``: of
                those answered at most this share is wrong, at 95 % confidence; those whose answer
                is too improbable stay unanswered, all if need be.

        Raises:
            InvalidParameter: There is a number to keep to, but no class with two shots.

        Example:
            >>> shots = [[1, 0.1], [1, 0], [1, -0.1], [0.1, 1], [0, 1], [-0.1, 1]]
            >>> birds = DualMemoryClassifier().fit(shots, ["crow"] * 3 + ["owl"] * 3)
            >>> birds.predict([[1, 0.05], [-1, -1]], abstain=0.2).tolist()
            ['crow', None]
        """
        return self._labels(X, abstain, promise)

    def predict_proba(self, X: Any) -> Doubles:
        """Return probabilities ``(pictures, classes)`` in the order of ``classes_``."""
        return self._answers(X)[0]

    def novelty(self, X: Any) -> Doubles:
        """Return how little each picture resembles any class: 1 - the best cosine, in [0, 2].

        The cosine is that of the picture and a class's vector out of names and shots; what was
        observed has no say, since a stranger that came along would make its like familiar.
        Probabilities say little here: the softmax is sure of the best of classes that all do not
        fit.
        """
        return self._novelty(X)

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Return the accuracy on these pictures, in [0, 1]."""
        with in_our_words():
            return float(super().score(X, y, sample_weight=sample_weight))

    def explain(self, X: Any) -> list[Explanation]:
        """Say for each picture which rows answered, and what each adds.

        A member's probability is shared out among the slots of the class in proportion to what
        each adds to the logit (a slot that points away from the picture takes away), and times the
        member's weight. So the contributions of the rows, added up, are the score of the answer.
        No counterfactual is searched for: ``minimal`` is False. A name that was given for a memory
        of shots, and is not written there, has the id -1.

        Example:
            >>> birds = DualMemoryClassifier([[1, 0], [0, 1]], ["crow", "owl"])
            >>> why = birds.fit([[0.9, 0.3]], ["crow"]).explain([[1.0, 0.2]])[0]
            >>> why.prediction, [row.metadata["part"] for row in why.evidence]
            ('crow', ['shot', 'text'])
        """
        return self._explain(X)

    def tune(
        self,
        X: Any = None,
        y: Any = None,
        *,
        weights: Sequence[float] | None = None,
        oracle: bool = False,
    ) -> WeighingReport:
        """Choose the weights of dynamic and static memory, and set them.

        Args:
            X: Pictures set aside for this purpose, never those that a result is reported on. None
                asks the shots about themselves: a quarter of each class's, or one, is left out at
                a time, of all classes together. What was observed stays; its labels come from the
                shots that are left.
            y: Their labels.
            weights: Values to try for both; those of the released code when None. The text's
                weight stays at 1.
            oracle: Say so if X and y are the rows a result is reported on, as in the paper's
                headline numbers: the report is labelled with it.

        Returns:
            All settings with their scores. ``chosen`` was set: the most even weights that are
            behind the best by no more than one standard error; the best of an oracle.

        Raises:
            InvalidParameter: No class has two shots, so that none can be left out.
        """
        report = tune_weights(self, X, y, weights=weights, oracle=oracle)
        self.set_params(weights=report.chosen.weights)
        return report

    def calibrate(self, X: Any = None, y: Any = None) -> float:
        """Choose the temperature at which the true labels are likeliest, set it and return it.

        Only how sure the answers are changes; choose weights first.

        Args:
            X: Pictures set aside for this purpose. None asks the shots about themselves, some of
                every class left out at a time, as in :meth:`tune`.
            y: Their labels.

        Raises:
            InvalidParameter: No class has two shots, so that none can be left out.
        """
        temperature = choose_temperature(self, X, y)
        self.set_params(temperature=temperature)
        return temperature

    def learn_offsets(self, X: Any, y: Any, training: Training | None = None) -> Offsets:
        """Learn offsets by asking other pictures of the classes, such as crops of the shots.

        As the released code does (section 3.4 of the paper): names and shots stay as they are, and
        crops of the shots, several of each, are the questions. ``offsets=Training()`` asks the
        shots themselves. The estimator stays as it is; set what comes back as ``offsets``.

        What was learned does not follow the rows: after shots came or went, learn it again.

        Args:
            X: Pictures, or features ``(pictures, dim)``.
            y: Labels ``(pictures,)``, each of a class that is here.
            training: How; ``Training()`` when None. It cannot leave out what lies in no slot.

        Returns:
            Offsets of the classes in the order of ``classes_``.

        Raises:
            NotFitted: There is neither a name nor a shot.
            InvalidLabel: A label of no class.
            InvalidParameter: ``training`` cannot be used.
            MissingExtra: torch is not installed.

        Example:
            >>> birds = DualMemoryClassifier([[1, 0], [0, 1]], ["crow", "owl"])
            >>> birds = birds.fit([[0.9, 0.3], [0.2, 0.9]], ["crow", "owl"])
            >>> learned = birds.learn_offsets([[0.8, 0.4]], ["crow"], Training(epochs=2))
            >>> birds.set_params(offsets=learned).predict([[1.0, 0.2]]).tolist()
            ['crow']
        """
        return self._learn_offsets(X, y, training)

    @property
    def classes_(self) -> NDArray[Any]:
        """Labels that have a name or a shot, sorted."""
        return as_text(self._current().parts.classes)

    @property
    def ids_(self) -> Ids:
        """int64: rows of the shots, in the order given; behind them those that others taught."""
        shots, taught = self._current().parts.shot_ids, np.concatenate(self._taught)
        known = taught[np.isin(taught, shots)]
        return np.concatenate([known, np.setdiff1d(shots, known, assume_unique=True)])

    @property
    def observed_ids_(self) -> Ids:
        """int64: rows of the observed pictures, in the order in which they came."""
        return self._current().offers.ids

    @property
    def offsets_(self) -> Offsets | None:
        """The offsets in use."""
        return self._current().bank.offsets
