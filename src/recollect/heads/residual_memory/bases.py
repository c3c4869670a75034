"""The model below a residual memory: whatever was trained, asked for outputs and an embedding.

A base is asked in blocks of one fixed size, the last one filled up, because a matrix product gives
other last bits for one row than for many: so a row's outputs are the same alone and in a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from recollect.encoders.pooling import pooled
from recollect.encoders.torch import device_of, evaluating, load_torch
from recollect.errors import (
    DimensionMismatch,
    EmptyBatch,
    InputError,
    InvalidParameter,
    LengthMismatch,
    NonFinite,
    RecollectError,
)
from recollect.heads.inputs import NotFitted, in_our_words
from recollect.types import Floats

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

Task: TypeAlias = Literal["classify", "regress"]
Embedding: TypeAlias = "Callable[[Any], Any] | str | None"

LEAST = 1e-30  # a probability of 0 has no logarithm
PLAIN_BLOCK, TORCH_BLOCK = 128, 16


@dataclass(frozen=True, slots=True)
class Base:
    """A trained model, ready to be asked.

    Attributes:
        classes: Labels of the columns of its outputs, or None if it does not name them.
        block: Rows asked about at a time.
        outputs: Rows -> ``(n, classes)`` logits, or ``(n,)`` / ``(n, width)`` numbers.
        embed: Rows -> ``(n, dim)``.
        task: Whether the outputs are logits or numbers.
        both: Rows -> embedding and outputs in one run, or None.
    """

    classes: NDArray[Any] | None
    block: int
    outputs: Callable[[Any], Any]
    embed: Callable[[Any], Any]
    task: Task
    both: Callable[[Any], tuple[Any, Any]] | None = None


def wrap(base: Any, embedding: Embedding, task: Task) -> Base:
    """Find out what a base is and how it is asked.

    Args:
        base: A fitted scikit-learn estimator, a torch module, or a function of X.
        embedding: A function of X; the name of a layer (of a torch module, of a step of a
            pipeline, ``"hidden_0"`` and so on of a multilayer perceptron); or None for the input
            of the last layer, where the base has layers, else X itself.
        task: Whether outputs are logits or numbers.

    Raises:
        NotFitted: A scikit-learn estimator was not fitted.
        InvalidParameter: It is nothing that can be asked, or has no such layer.
    """
    if isinstance(base, type):
        raise InvalidParameter(
            "the base is a class, not a model",
            expected="a trained model",
            got=f"the class {base.__name__}",
            remedy="Make one and train it first: residuals are those of a trained model.",
        )
    if hasattr(base, "named_modules"):
        return _wrap_torch(base, embedding, task)
    if hasattr(base, "get_params") and hasattr(base, "fit"):
        return _wrap_sklearn(base, embedding, task)
    if not callable(base):
        raise InvalidParameter(
            "this is no base",
            expected="a fitted scikit-learn estimator, a torch module, or a function of X",
            got=type(base).__name__,
            remedy="Train a model first, and pass it.",
        )
    function = _told(base, "base")
    return Base(None, PLAIN_BLOCK, function, _embedding_of(base, embedding), task)


def ask(base: Base, X: Any, *, embedding: bool, outputs: bool) -> tuple[Floats, NDArray[Any]]:
    """Ask a base, block by block.

    Args:
        base: From :func:`wrap`.
        X: Its inputs: an array, a list, a data frame, a tensor, a sparse matrix.
        embedding: Whether embeddings are wanted; an empty array stands for them otherwise.
        outputs: Whether outputs are wanted; likewise.

    Returns:
        Embeddings, float32 ``(n, dim)``, and outputs ``(n, ...)``: logits as float32, numbers as
        float64; all finite.

    Raises:
        InputError: X cannot be used, or what came out cannot; a row is named.
    """
    count = _count(X)
    rows_of = _with_rows(X)
    embedded, asked = [], []
    for start in range(0, count, base.block):
        rows = min(base.block, count - start)
        part = _block(rows_of, start, rows, base.block)
        with _telling_of(X, part, start):
            if base.both is not None and embedding and outputs:
                first, second = base.both(part)
            else:
                first = base.embed(part) if embedding else None
                second = base.outputs(part) if outputs else None
        if embedding:
            embedded.append(_plain(first, base.block, "embedding")[:rows])
        if outputs:
            asked.append(_plain(second, base.block, "output")[:rows])
    return (
        as_embedding(np.concatenate(embedded)) if embedding else np.empty((0, 0), np.float32),
        as_outputs(np.concatenate(asked), base.task) if outputs else np.empty((0, 0)),
    )


@contextmanager
def _telling_of(X: Any, part: Any, start: int) -> Iterator[None]:
    """Where scikit-learn refuses a block: say which row is not finite, or how X is shaped."""
    try:
        yield
    except DimensionMismatch as error:
        shape = np.shape(X) if np.ndim(part) == 1 else ()
        if len(shape) != 1:
            raise
        # Its own words show the block, which is filled up with one value.
        raise DimensionMismatch(
            "X has the wrong shape",
            expected="(rows, dim)",
            got=f"{shape}: {_shown(X)}",
            remedy="Pass features of shape (rows, dim); a single row as X.reshape(1, -1).",
        ) from error
    except NonFinite as error:
        try:
            usable = np.isfinite(np.asarray(part, np.float64)).reshape(len(part), -1).all(axis=1)
        except (TypeError, ValueError):
            raise error from None
        if usable.all():
            raise
        raise NonFinite(
            f"row {start + int(np.argmin(usable))} of X is not finite",
            expected="finite numbers",
            got="NaN or infinity",
            remedy="Remove or impute missing values first.",
        ) from error


def as_embedding(given: Any) -> Floats:
    """Return embeddings, computed or given, as float32 ``(n, dim)``.

    Raises:
        DimensionMismatch: Not two-dimensional.
        NonFinite: NaN or infinity; the row is named.
    """
    array = _plain(given, None, "embedding")
    if array.ndim > 2:
        array = array.reshape(len(array), -1)
    if array.ndim != 2 or not array.shape[1]:
        raise DimensionMismatch(
            "embeddings have the wrong shape",
            expected="(rows, dim), dim at least 1",
            got=str(array.shape),
            remedy="Give one vector for each row.",
        )
    with np.errstate(over="ignore"):
        kept = np.ascontiguousarray(array, np.float32)
    _refuse_unusable(kept, "embedding")
    return kept


def as_outputs(given: Any, task: Task = "classify") -> NDArray[Any]:
    """Return outputs, computed or given: logits as float32, as they are kept; numbers as float64.

    Raises:
        NonFinite: NaN or infinity; the row is named.
    """
    array = _plain(given, None, "output")
    with np.errstate(over="ignore"):
        kept = np.ascontiguousarray(array, np.float32)
    _refuse_unusable(kept, "output")
    return kept if task == "classify" else np.ascontiguousarray(array, np.float64)


def _refuse_unusable(array: Floats, what: str) -> None:
    usable = np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
    if not usable.all():
        raise NonFinite(
            f"the {what} of row {int(np.argmin(usable))} is not finite",
            expected="numbers that float32 can hold",
            got=f"NaN or infinity in {int((~usable).sum())} of {len(array)} rows",
            remedy="Look at the inputs of these rows, and at the base.",
        )


def _shown(X: Any) -> str:
    """The first of some numbers."""
    values = np.asarray(X).tolist()
    told = ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
    return f"[{told}]" if len(told) <= 80 else f"[{told[:60]}...]"


def _plain(given: Any, rows: int | None, what: str) -> NDArray[Any]:
    if hasattr(given, "detach"):
        given = given.detach().cpu()
        # NumPy has no bfloat16, and float32 holds all of it.
        given = (given if given.element_size() > 2 else given.float()).numpy()
    if hasattr(given, "toarray"):
        given = given.toarray()
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise DimensionMismatch(f"the {what}s differ in length", got=str(error)) from error
    if array.dtype.kind not in "fiub" or not array.ndim:
        raise InvalidParameter(
            f"the {what}s are no numbers", expected="an array of floats", got=str(array.dtype)
        )
    if rows is not None and len(array) != rows:
        raise LengthMismatch(
            f"there is not one {what} for each row",
            expected=rows,
            got=len(array),
            remedy="A base answers for every row, in the order given.",
        )
    return array


def _count(X: Any) -> int:
    with in_our_words():
        unordered = X is None or isinstance(X, str | bytes | Mapping | AbstractSet)
        if unordered or not (hasattr(X, "shape") or len(X) >= 0):
            raise TypeError(f"X holds no rows: {type(X).__name__}")
        count = int(X.shape[0]) if getattr(X, "shape", ()) else len(X)
    if not count:
        raise EmptyBatch("there are no rows in X", remedy="Leave the call out.")
    return count


def _with_rows(X: Any) -> Any:
    """A sparse matrix of a form of which no rows can be picked, in one of which they can."""
    return X.tocsr() if issparse(X) and X.format in {"bsr", "coo", "dia"} else X


def _block(X: Any, start: int, rows: int, block: int) -> Any:
    """Rows of X, the first of them again and again behind them until the block is full."""
    places = np.concatenate([np.arange(start, start + rows), np.full(block - rows, start)])
    if hasattr(X, "iloc"):
        return X.iloc[places]
    return X[places] if hasattr(X, "shape") else [X[place] for place in places.tolist()]


# -- scikit-learn ----------------------------------------------------------------------------------


def _wrap_sklearn(base: Any, embedding: Embedding, task: Task) -> Base:
    try:
        check_is_fitted(base)
    except NotFittedError as error:
        raise NotFitted(
            "the base is not fitted",
            expected="a trained model",
            got=type(base).__name__,
            remedy="Call its fit first: a residual memory keeps what a trained model gets wrong.",
        ) from error
    embed = _embedding_of(base, embedding)
    if task == "regress":
        return Base(None, PLAIN_BLOCK, _in_words(base.predict), embed, task)
    if not hasattr(base, "classes_") or isinstance(base.classes_, list):
        raise InvalidParameter(
            "the base names no classes",
            expected="a classifier of one label a row",
            got=type(base).__name__,
            remedy="Use ResidualMemoryRegressor for numbers.",
        )
    return Base(np.asarray(base.classes_), PLAIN_BLOCK, _in_words(_logits_of(base)), embed, task)


@contextmanager
def failing_in_our_words(what: str) -> Iterator[None]:
    """Let what somebody's model or function raises leave as an error of this library."""
    try:
        yield
    except RecollectError:
        raise
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError,
            ValueError) as error:  # fmt: skip
        raise InputError(
            f"the {what} does not answer about these rows",
            expected="an answer for every row",
            got=f"{type(error).__name__}: {error}",
            remedy="Give it rows as it was trained on, or wrap it in a function that takes them.",
        ) from error


def _told(function: Callable[[Any], Any], what: str) -> Callable[[Any], Any]:
    def asked(X: Any) -> Any:
        """Ask somebody's function; what it raises is told in words of this library."""
        with failing_in_our_words(what):
            return function(X)

    return asked


def _in_words(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def asked(X: Any) -> Any:
        """Raise errors of this library where scikit-learn raises its own."""
        with in_our_words():
            return function(X)

    return asked


def _logits_of(base: Any) -> Callable[[Any], Any]:
    """Logarithms of the probabilities; where there are none, what the base decides by."""
    if hasattr(base, "predict_proba"):
        return lambda X: np.log(np.maximum(base.predict_proba(X), LEAST))
    if not hasattr(base, "decision_function"):
        raise InvalidParameter(
            "the base says how sure it is of nothing",
            expected="predict_proba or decision_function",
            got=type(base).__name__,
            remedy="Wrap it in CalibratedClassifierCV.",
        )

    def decide(X: Any) -> NDArray[Any]:
        """Two columns for two classes, where scikit-learn gives one: the first class has 0."""
        decided = np.asarray(base.decision_function(X))
        return np.stack([np.zeros(len(decided)), decided], 1) if decided.ndim == 1 else decided

    return decide


def _embedding_of(base: Any, embedding: Embedding) -> Callable[[Any], Any]:
    if embedding is None:
        return _in_words(_last_input(base))
    if isinstance(embedding, str):
        return _in_words(_layer(base, embedding))
    if callable(embedding):
        return _told(embedding, "embedding")
    raise InvalidParameter(
        "this is no embedding",
        expected="a function of X, the name of a layer, or None",
        got=type(embedding).__name__,
        remedy="Arrays are given with the rows: fit(X, y, embedding=...).",
    )


def _last_input(base: Any) -> Callable[[Any], Any]:
    """What the last step of a pipeline sees, the last layer of a perceptron, or X as it is."""
    if isinstance(base, Pipeline):
        last = _last_input(base.steps[-1][1])
        if len(base.steps) == 1:
            return last
        before = base[:-1]
        return lambda X: last(before.transform(X))
    if hasattr(base, "coefs_") and hasattr(base, "activation"):
        return lambda X: _hidden(base, X, len(base.coefs_) - 1)
    return lambda X: check_array(X, dtype=[np.float64, np.float32])


def _layer(base: Any, name: str) -> Callable[[Any], Any]:
    if isinstance(base, Pipeline) and name in base.named_steps:
        upto = base[: [step for step, _ in base.steps].index(name) + 1]
        return upto.transform  # type: ignore[no-any-return]
    if hasattr(base, "coefs_") and hasattr(base, "activation"):
        names = [f"hidden_{place}" for place in range(len(base.coefs_) - 1)]
        if name in names:
            return lambda X: _hidden(base, X, names.index(name) + 1)
    raise _no_layer(base, name)


def _hidden(perceptron: Any, X: Any, layers: int) -> NDArray[Any]:
    """Return what comes out of the first layers of scikit-learn's multilayer perceptron."""
    shapes: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
        "identity": lambda values: values,
        "logistic": lambda values: 1.0 / (1.0 + np.exp(-values)),
        "tanh": np.tanh,
        "relu": lambda values: np.maximum(values, 0.0),
    }
    values = check_array(X, dtype=[np.float64, np.float32])
    for weights, bias in zip(perceptron.coefs_[:layers], perceptron.intercepts_, strict=False):
        values = shapes[perceptron.activation](values @ weights + bias)
    return np.asarray(values)


def _no_layer(base: Any, name: str) -> InvalidParameter:
    return InvalidParameter(
        f"the base has no layer {name!r}",
        expected="a name of module.named_modules(), a step of the pipeline, or hidden_0, ...",
        got=type(base).__name__,
        remedy="Pass a function of X instead.",
    )


# -- torch -----------------------------------------------------------------------------------------


def _wrap_torch(module: Module, embedding: Embedding, task: Task) -> Base:
    def outputs(X: Any) -> Any:
        """Logits without catching any layer."""
        return _run(module, None, X, before=False)[1]

    if callable(embedding):
        return Base(None, TORCH_BLOCK, outputs, _told(embedding, "embedding"), task)
    layer, before = _find(module, embedding)

    def both(X: Any) -> tuple[Any, Any]:
        """Embedding and logits of a single pass."""
        return _run(module, layer, X, before=before)

    return Base(None, TORCH_BLOCK, outputs, lambda X: both(X)[0], task, both)


def _find(module: Module, name: Any) -> tuple[Module, bool]:
    """The layer by name; without one the last linear layer, whose input is wanted."""
    torch = load_torch()
    layers = dict(module.named_modules())
    if name is not None:
        if name not in layers:
            raise _no_layer(module, str(name))
        return layers[name], False
    linear = [each for each in layers.values() if isinstance(each, torch.nn.Linear)]
    if not linear:
        raise InvalidParameter(
            "the base has no linear layer whose input could be the embedding",
            expected="a torch.nn.Linear",
            got=type(module).__name__,
            remedy="Name a layer: embedding='...'.",
        )
    return linear[-1], True


def _run(module: Module, layer: Module | None, X: Any, *, before: bool) -> tuple[Any, Any]:
    caught: list[Any] = []

    def hook(_layer: Any, inputs: Any, output: Any) -> None:
        """Keep what goes into the layer or what comes out of it, once a pass."""
        caught.append(inputs[0] if before else output)

    handle = None if layer is None else layer.register_forward_hook(hook)
    try:
        given = _as_tensor(module, X)
        with evaluating(module), failing_in_our_words("base"):
            output = module(given.to(device_of(module)))
    finally:
        if handle is not None:
            handle.remove()
    output = output[0] if isinstance(output, tuple) else getattr(output, "logits", output)
    if layer is None:
        return None, output
    first = caught[-1][0] if isinstance(caught[-1], tuple) else caught[-1]
    return pooled(first.float().cpu().numpy(), "mean"), output


def _as_tensor(module: Module, X: Any) -> Tensor:
    """X as the module computes: of its own kind of floats; whole numbers stay what they are."""
    torch = load_torch()
    if isinstance(X, torch.Tensor):
        given = X
    else:
        with in_our_words():
            array = np.asarray(X)
            if array.dtype.kind not in "fiub":
                raise TypeError(f"X holds no numbers: {array.dtype}")
        given = torch.as_tensor(array)
    own = (each.dtype for each in module.parameters() if each.is_floating_point())
    kind = next(own, torch.float32) if given.is_floating_point() else given.dtype
    tensor: Tensor = given.to(kind)
    return tensor
