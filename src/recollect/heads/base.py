"""What every estimator over one memory does: teach it, ask it, make it forget, travel."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

from numpy.typing import ArrayLike, NDArray
from sklearn.utils import Tags

from recollect.encoders.base import Encoder
from recollect.encoders.batching import encode_all
from recollect.errors import InvalidParameter
from recollect.heads.inputs import check_features
from recollect.heads.keeper import MemoryKeeper
from recollect.memory.memory import Memory
from recollect.types import Metric, ValueKind


class MemoryEstimator(MemoryKeeper):
    """An estimator whose whole knowledge is the rows of one memory.

    Final classes set ``metric``, ``encoder`` and ``memory`` in their constructor.
    """

    metric: Metric
    encoder: Encoder | None

    @property
    @abstractmethod
    def _kind(self) -> ValueKind:
        """What the rows hold."""

    @abstractmethod
    def _check_options(self) -> None:
        """Refuse parameters out of range."""

    @abstractmethod
    def _check_targets(self, X: Any, y: Any) -> NDArray[Any]:
        """Return one value per row of X."""

    # -- teaching ------------------------------------------------------------------------------

    def _teach(
        self,
        X: Any,
        y: Any,
        *,
        anew: bool,
        ids: ArrayLike | None,
        weights: ArrayLike | None,
        sources: Any,
        metadata: Mapping[str, Any] | None,
    ) -> Self:
        self._check_options()
        columns = {"ids": ids, "weights": weights, "sources": sources, "metadata": metadata}
        known = not anew and self.__sklearn_is_fitted__()
        earlier = self._taught if known else []
        with self._width_unchanged_on_error():
            keys = self._keys(X, reset=not known)
            values = self._check_targets(X, y)
            with self._memory_to_teach(keys, values, columns, anew=anew) as memory:
                self._check_fits(memory)
                write = memory.replace if anew else memory.add
                taught = write(keys, values, **columns)
                self._adopt(memory)
        earlier.append(taught)
        self._taught = earlier
        return self

    def _keys(self, X: Any, *, reset: bool = False) -> NDArray[Any]:
        if self.encoder is None:
            return check_features(self, X, reset=reset)
        if not isinstance(self.encoder, Encoder):
            raise InvalidParameter(
                "this is no encoder",
                expected="an object with dim, modality, fingerprint, spec and encode",
                got=f"{self.encoder!r:.80}",
                remedy="Build one with recollect.encoders, for example HogEncoder().",
            )
        if "memory_" in self.__dict__:
            self.memory_.check_encoder(self.encoder)  # its rows may have been given other keys
        return encode_all(self.encoder, X).keys

    def _check_fits(self, memory: Memory) -> None:
        if memory.value not in (("label",) if self._kind == "label" else ("number", "vector")):
            raise InvalidParameter(
                f"the memory does not hold what {type(self).__name__} reads",
                expected=f"value={self._kind!r}",
                got=f"value={memory.value!r}",
                remedy="MemoryClassifier reads labels, MemoryRegressor numbers and vectors.",
            )
        if memory.metric != self.metric:
            raise InvalidParameter(
                "the memory compares keys in another way",
                expected=f"metric={memory.metric!r}",
                got=f"metric={self.metric!r}",
                remedy=f"Pass metric={memory.metric!r}, or start a new memory.",
            )
        memory.check_encoder(self.encoder)

    def _creation_options(self, keys: NDArray[Any], values: Any) -> dict[str, Any]:
        wide = values.shape[1] if values.ndim == 2 else None
        return {
            "dim": keys.shape[1],
            "metric": self.metric,
            "value": self._kind if wide is None else "vector",
            "value_dim": wide,
        }

    @contextmanager
    def _width_unchanged_on_error(self) -> Iterator[None]:
        """A call that raised leaves what scikit-learn keeps of X as it was."""
        names = ("n_features_in_", "feature_names_in_")
        before = {name: self.__dict__[name] for name in names if name in self.__dict__}
        try:
            yield
        except BaseException:
            for name in names:
                self.__dict__.pop(name, None)
            self.__dict__.update(before)
            raise

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        if self.encoder is not None:
            tags.input_tags.two_d_array = False
            tags.input_tags.string = self.encoder.modality == "text"
        return tags
