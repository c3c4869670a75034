"""What stands behind the classifier: a network, its recorded runs as rows, and their table."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidParameter
from recollect.heads.base import MemoryEstimator
from recollect.heads.inputs import check_labels
from recollect.heads.lookup.images import check_images
from recollect.heads.lookup.layout import Layout
from recollect.heads.lookup.network import Network
from recollect.heads.lookup.recipe import Recipe
from recollect.heads.lookup.rows import (
    layout_of,
    names_of,
    pack_runs,
    row_weights,
    spec_of,
    unpack_runs,
)
from recollect.heads.lookup.runs import Runs
from recollect.heads.lookup.table import Table, make_table
from recollect.heads.lookup.teaching import Progress, answering, run_images, train_network
from recollect.types import ValueKind


class RunEstimator(MemoryEstimator):
    """An estimator over a memory of runs of one network; the final class sets the fields."""

    model: Network | str | Path | None
    glimpses: int
    bits: tuple[int, int]
    recipe: Recipe | None
    seed: int
    per_step: bool
    answers: Literal["labels", "network"]
    _network: Network | None
    classes_: Any

    @property
    def network_(self) -> Network | None:
        """The network, or None where only its runs are there."""
        return self._known_network()

    @property
    def layout_(self) -> Layout:
        """Sizes of glimpses, state and images."""
        network = self._known_network()
        if network is not None:
            return network.layout
        layout = layout_of(self._recall().encoder_spec)
        if layout is None:
            raise InvalidParameter(
                "the memory holds no runs of a recurrent attention model",
                remedy="Pass a memory that LookupClassifier recorded.",
            )
        return layout

    def runs(self) -> Runs:
        """Return the recorded runs, by id of the image."""
        rows = self._recall().rows()
        return unpack_runs(rows.ids, rows.keys, self.layout_)

    # -- inside --------------------------------------------------------------------------------

    @property
    def encoder(self) -> Any:  # type: ignore[override]
        """What the memory notes: the keys are runs of this network."""
        network = self._known_network()
        if network is None:
            return None
        spec = spec_of(network.layout, network.labels)
        return SimpleNamespace(fingerprint=network.fingerprint, spec=spec, modality="image")

    @property
    def _kind(self) -> ValueKind:
        return "label"

    def _check_targets(self, X: Any, y: Any) -> NDArray[Any]:
        return check_labels(self, X, y)

    def _keys(self, X: Any, *, reset: bool = False) -> NDArray[Any]:
        del reset
        network = self._known_network()
        assert network is not None
        return pack_runs(run_images(network, check_images(X, network.layout.side)))

    def _creation_options(self, keys: NDArray[Any], values: Any) -> dict[str, Any]:
        packed = {"dtype": keys.dtype.name, "metric_weights": row_weights(self.layout_)}
        return {**super()._creation_options(keys, values), **packed}

    def _known_network(self) -> Network | None:
        if "_network" in self.__dict__ and self._network is not None:
            network: Network = self._network
            return network
        if isinstance(self.model, Network):
            return self.model
        if self.model is not None:
            self._network = Network.load(self.model)
            return self._network
        return None

    def _make_network(
        self, pixels: NDArray[Any], labels: NDArray[Any], progress: Progress | None
    ) -> Network:
        if self.model is None:
            return train_network(
                pixels, labels, glimpses=self.glimpses, bits=self.bits, recipe=self.recipe,
                seed=self.seed, progress=progress,
            )  # fmt: skip
        given = self.model if isinstance(self.model, Network) else Network.load(self.model)
        check_images(pixels[:1], given.layout.side)
        return given.named_after(labels)

    @property
    def _names(self) -> list[Any]:
        """Label of each class that the table's answers count."""
        if self.answers == "labels":
            names: list[Any] = self.classes_.tolist()
            return names
        network = self._known_network()
        if network is not None:
            return network.labels
        return names_of(self._recall().encoder_spec)

    def _record_table(self) -> Table:
        rows = self._recall().rows()
        runs = unpack_runs(rows.ids, rows.keys, self.layout_)
        codes = None
        if self.answers == "labels":
            _, codes = np.unique(rows.values, return_inverse=True)
        return make_table(answering(runs, codes), per_step=self.per_step)
