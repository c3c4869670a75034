"""Class names -> sentences -> one text vector a class, as CLIP is asked (section 5 of the spec)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recollect.encoders.base import Encoder
from recollect.encoders.batching import encode_all
from recollect.errors import (
    DimensionMismatch,
    EncoderMismatch,
    InvalidLabel,
    InvalidParameter,
    LengthMismatch,
)
from recollect.heads.dual_memory.parts import Names
from recollect.memory import checks, row_checks
from recollect.memory.schema import Configuration
from recollect.readout.attention import unit
from recollect.types import Floats, Label

Prompts: TypeAlias = "str | Sequence[str] | Mapping[Any, Sequence[str]]"

TEMPLATES = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
"""The seven templates that CLIP's authors chose for ImageNet and that the released code uses."""


def sentences(name: str, prompts: Prompts | None) -> list[str]:
    """Write the sentences that stand for a class.

    Args:
        name: The class name; underscores become spaces.
        prompts: Templates with ``{}`` for the name; or a mapping from names to sentences, which
            are used as they are; None takes :data:`TEMPLATES`.

    Raises:
        InvalidParameter: A template without ``{}``, or no sentence for this class.

    Example:
        >>> sentences("sea_horse", "a photo of a {}.")
        ['a photo of a sea horse.']
    """
    spoken = name.replace("_", " ")
    if isinstance(prompts, Mapping):
        own = prompts.get(name)
        if own is None or isinstance(own, str) or not len(own):
            raise InvalidParameter(
                f"there is no sentence for the class {name!r}",
                expected="a list of at least one sentence for every class",
                got=repr(own),
                remedy="Add it to prompts, or pass templates such as 'a photo of a {}.'.",
            )
        return [str(each) for each in own]
    templates = TEMPLATES if prompts is None else prompts
    templates = [templates] if isinstance(templates, str) else list(templates)
    if not templates or not all(isinstance(each, str) and "{}" in each for each in templates):
        raise InvalidParameter(
            "a template has no place for the name",
            expected="texts with {} in them",
            got=repr(templates)[:200],
            remedy="Write 'a photo of a {}.'.",
        )
    return [each.replace("{}", spoken) for each in templates]


def embed_names(names: Sequence[Any], prompts: Prompts | None, encoder: Encoder) -> Floats:
    """Encode the sentences of each class: each of length 1, their mean again of length 1.

    Args:
        names: Class names.
        prompts: See :func:`sentences`.
        encoder: Of texts, such as CLIP's.

    Returns:
        float32 ``(classes, dim)``.

    Example:
        >>> from recollect.encoders import from_name
        >>> embed_names(["cat", "dog"], "a {}", from_name("hashing-text?dim=64")).shape
        (2, 64)
    """
    if not isinstance(encoder, Encoder) or encoder.modality != "text":
        raise InvalidParameter(
            "class names are encoded by an encoder of texts",
            expected="modality 'text'",
            got=f"{encoder!r:.80}",
            remedy="Pass text_encoder=, or text_features made with it.",
        )
    each = [sentences(str(name), prompts) for name in names]
    vectors = unit(encode_all(encoder, [line for some in each for line in some]).keys)
    stops = np.cumsum([len(some) for some in each])
    means = [
        np.add.reduce(vectors[stop - len(some) : stop].astype(np.float64), axis=0) / len(some)
        for stop, some in zip(stops.tolist(), each, strict=True)
    ]
    return unit(np.array(means))


def text_side(encoder: Any) -> Encoder | None:
    """The text encoder that belongs to an image encoder of CLIP; None for any other encoder."""
    spec = getattr(encoder, "spec", None)
    if not isinstance(spec, Mapping) or spec.get("type") != "huggingface":
        return None
    if spec.get("modality") != "image" or spec.get("output") != "projection":
        return None
    from recollect.encoders import HuggingFaceEncoder

    return HuggingFaceEncoder(spec["model"], revision=spec["revision"], modality="text")


def check_names(text_features: Any, class_names: Any) -> Names:
    """Judge text features and the names they belong to.

    Args:
        text_features: ``(classes, dim)``, or a mapping from names to vectors.
        class_names: One for each; None numbers them from 0, or takes the mapping's.

    Raises:
        InvalidLabel: A name twice, or names of mixed types.
        LengthMismatch: Another number of names than of vectors.
        InputError: The vectors cannot be used.
    """
    if isinstance(text_features, Mapping):
        given = list(text_features) if class_names is None else check_class_names(class_names)
        missing = [name for name in given if name not in text_features]
        if missing:
            raise InvalidLabel(
                "a class has no text vector", expected="one for every name", got=missing[:5],
                remedy="Add its vector, or leave the name out.",
            )  # fmt: skip
        text_features = [text_features[name] for name in given]
        class_names = given
    vectors = as_vectors(text_features, "(classes, dim)")
    if vectors.ndim != 2 or not vectors.shape[1]:
        raise DimensionMismatch(
            "text features must be one vector a class",
            expected="(classes, dim)",
            got=str(vectors.shape),
            remedy="Pass an array with one row for each class, or a mapping from names to vectors.",
        )
    keys = checks.check_keys(vectors, Configuration(dim=vectors.shape[1]), what="text features")
    names = range(len(keys)) if class_names is None else class_names
    labels = check_class_names(names)
    if len(labels) != len(keys):
        raise LengthMismatch(
            "names and text features differ in number",
            expected=f"{len(keys)} names, one for each vector",
            got=len(labels),
            remedy="Give every class a name and a vector.",
        )
    return Names(labels, keys)


def content_of(given: Any) -> Hashable:
    """Return what tells whether names, vectors or prompts are those that were given before.

    Args:
        given: Arrays, mappings, sequences and plain values are compared by what they hold, anything
            else by what it is.

    Example:
        >>> names = ["crow", "owl"]
        >>> before = content_of(names)
        >>> names[0] = "jay"
        >>> content_of(names) == before
        False
    """
    if given is None or isinstance(given, str | bytes | int | float | np.generic):
        return type(given), given
    if isinstance(given, Mapping):
        return tuple((content_of(name), content_of(each)) for name, each in given.items())
    if isinstance(given, list | tuple) and not (given and isinstance(given[0], list | tuple)):
        return tuple(map(content_of, given))
    try:
        array = np.asarray(given)
    except checks.UNREADABLE:
        array = np.array(None)
    if array.dtype != object:
        return array.dtype.str, array.shape, array.tobytes()
    if isinstance(given, list | tuple):
        return tuple(map(content_of, given))
    return (array.shape, *map(content_of, array.ravel().tolist())) if array.ndim else id(given)


def as_vectors(given: Any, shape: str) -> NDArray[Any]:
    """Return what was given as an array.

    Raises:
        DimensionMismatch: Its parts differ in length.
    """
    try:
        return np.asarray(given)
    except checks.UNREADABLE as error:
        raise DimensionMismatch(
            "vectors differ in length", expected=shape, got=str(error),
            remedy="Take all of them from one encoder.",
        ) from error  # fmt: skip


def check_class_names(names: Any) -> list[Label]:
    """Return names as str or int, each once.

    Raises:
        InvalidLabel: None at all, one twice, or mixed types.
    """
    if isinstance(names, set | frozenset):
        raise InvalidLabel(
            "a set of class names has no order", expected="a sequence, in the order of the vectors",
            got=f"{names!r:.80}", remedy="Pass a list such as sorted(names).",
        )  # fmt: skip
    if isinstance(names, str | bytes) or not hasattr(names, "__len__") or not len(names):
        raise InvalidLabel(
            "these are no class names", expected="a sequence of at least one",
            got=f"{names!r:.80}", remedy="Pass a list such as ['crow', 'jay'].",
        )  # fmt: skip
    labels: list[Label] = list(row_checks.check_labels(list(names), len(names)))
    if any(isinstance(each, str) and not each.strip() for each in labels):
        raise InvalidLabel(
            "a class name is blank", expected="text, or an integer", got=repr(list(names)[:5]),
            remedy="Leave it out, or name it.",
        )  # fmt: skip
    if len(set(labels)) < len(labels):
        twice = sorted({str(each) for each in labels if labels.count(each) > 1})
        raise InvalidLabel(
            "a class is named twice",
            expected="each name once",
            got=", ".join(twice[:5]),
            remedy="Leave one out, or tell them apart: 'crane (bird)', 'crane (machine)'.",
        )
    return labels


def require_names(names: Names | None) -> Names:
    """Return names that are there.

    Raises:
        InvalidParameter: There are none, and no shots either.
    """
    if names is None:
        raise InvalidParameter(
            "there is nothing to answer with", expected="class names, or shots and their labels",
            got="neither", remedy="Pass text_features or class_names, or fit(X, y).",
        )  # fmt: skip
    return names


def check_width(names: Names, dim: int) -> None:
    """Refuse text vectors that do not lie in the space of the pictures."""
    if names.vectors.shape[1] != dim:
        raise DimensionMismatch(
            "text and pictures have different widths",
            expected=f"text features of width {dim}",
            got=names.vectors.shape[1],
            remedy="Both must come from one pair of encoders, such as CLIP's.",
        )


def check_pair(text: Encoder, pictures: Any) -> None:
    """Refuse a text encoder whose vectors have another width than the pictures'."""
    if pictures is not None and text.dim != pictures.dim:
        raise EncoderMismatch(
            "text and pictures are not encoded into one space",
            expected=f"a text encoder of width {pictures.dim}",
            got=text.dim,
            remedy="Both must come from one pair of encoders, such as CLIP's.",
        )
