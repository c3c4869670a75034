"""What stands behind the classifier: a network, its recorded runs as rows, and their table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidParameter
from recollect.heads.base import MemoryEstimator
from recollect.heads.inputs import check_labels
from recollect.heads.keeper import empty_memory
from recollect.heads.lookup.images import check_images
from recollect.heads.lookup.layout import Layout
from recollect.heads.lookup.network import Network
from recollect.heads.lookup.readout import Readout
from recollect.heads.lookup.recipe import Recipe
from recollect.heads.lookup.rows import (
    layout_of,
    names_of,
    pack_runs,
    read_weights,
    row_weights,
    spec_of,
    unpack_runs,
)
from recollect.heads.lookup.runs import Runs
from recollect.heads.lookup.table import Table
from recollect.heads.lookup.teaching import Progress, recorded_table, run_images, train_network
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
    readout: Readout
    # The model that was given, and the network it means; trained here where the model is None.
    _network: tuple[Network | str | Path | None, Network]

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
        held = self.__dict__.get("_network")
        if held is not None and held[0] is self.model:
            network: Network = held[1]
            return network
        if self.model is None:
            return None
        self._network = (self.model, self._given_network())
        return self._network[1]

    def _given_network(self) -> Network:
        assert self.model is not None
        return self.model if isinstance(self.model, Network) else Network.load(self.model)

    def _make_network(
        self, pixels: NDArray[Any], labels: NDArray[Any], progress: Progress | None
    ) -> Network:
        if self.model is None:
            return train_network(
                pixels, labels, glimpses=self.glimpses, bits=self.bits, recipe=self.recipe,
                seed=self.seed, progress=progress,
            )  # fmt: skip
        given = self._given_network()
        check_images(pixels[:1], given.layout.side)
        return given.named_after(labels)

    def _read(self) -> Recorded:
        """Read one version of the memory, whatever a writer does meanwhile.

        Raises:
            NotFitted: Nothing is recorded.
        """
        memory = self._recall()
        memory.check_encoder(self.encoder)
        version = memory.version
        held: tuple[tuple[Any, ...], Recorded] | None = self.__dict__.get("_recorded_rows")
        wanted = (memory, version, self.per_step, self.answers, self.readout)
        if held is not None and held[0] == wanted:
            return held[1]
        rows = memory.at(version).rows()
        if not len(rows.ids):
            raise empty_memory()
        names, codes = np.unique(rows.values, return_inverse=True)
        labels = names.astype(str) if names.dtype == object else names
        runs = unpack_runs(rows.ids, rows.keys, self.layout_)
        by_label = self.answers == "labels"
        table = recorded_table(
            runs, codes if by_label else None, per_step=self.per_step, readout=self.readout
        )
        answers = labels.tolist() if by_label else self._network_names()
        found = Recorded(version, table, answers, labels, read_weights(rows.metadata))
        self._recorded_rows = (wanted, found)
        return found

    def _network_names(self) -> list[Any]:
        """Label of each class that the network names."""
        network = self._known_network()
        return names_of(self._recall().encoder_spec) if network is None else network.labels


@dataclass(frozen=True, slots=True)
class Recorded:
    """What one version of the memory says.

    Attributes:
        version: Which one.
        table: The table of its runs.
        names: Label of each class that the table's answers count.
        labels: Labels of its rows, sorted.
        weights: Weights that were chosen for it, or None.
    """

    version: int
    table: Table
    names: list[Any]
    labels: NDArray[Any]
    weights: tuple[float, float, float] | None
