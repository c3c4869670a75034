"""Encoders in the form of Hugging Face: DINOv2, CLIP images and texts, ConvNeXt, Swin, BERT.

Code comes from the transformers library alone, weights from safetensors alone, and nothing is
fetched from a network unless ``allow_download=True``. Keys of one input may differ from batch to
batch in their last bits, by about 1e-6 of their length; ``batch_size=1`` gives the same always.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from recollect.encoders.base import Modality
from recollect.encoders.batching import check_count, encode_each, invalid, prepared_batches
from recollect.encoders.hub import (
    backbones,
    decisive_files,
    find_folder,
    load_pretrained,
    read_json,
    read_preprocessing,
)
from recollect.encoders.identity import (
    DECODING,
    check_hash,
    checked_fields,
    fingerprint,
    hash_files,
)
from recollect.encoders.pooling import joined
from recollect.encoders.preprocessing import Preprocessing, Size, preprocessing
from recollect.encoders.torch import evaluating, load_torch
from recollect.errors import EncoderFault
from recollect.types import Floats

Output: TypeAlias = Literal["pooled", "cls", "mean", "projection"]

# A closed list: other models may be assembled from further models that would be fetched.
IMAGE_MODELS = (
    "beit", "bit", "clip", "convnext", "convnextv2", "deit", "dinov2", "dinov2_with_registers",
    "resnet", "swin", "swinv2", "vit",
)  # fmt: skip
TEXT_MODELS = (
    "albert", "bert", "camembert", "clip", "distilbert", "electra", "modernbert", "mpnet",
    "roberta", "xlm-roberta",
)  # fmt: skip
_OUTPUTS = ("cls", "mean", "pooled", "projection")
# These count positions from behind the padding token.
_SHIFTED_POSITIONS = ("camembert", "mpnet", "roberta", "xlm-roberta")
# Of a deep stack of equal layers, maps are taken from this many.
_STAGES = 4
_FIELDS: dict[str, tuple[type, ...]] = {
    "model": (str,),
    "revision": (str, type(None)),
    "modality": (str,),
    "output": (str,),
    "normalize": (bool,),
    "preprocessing": (dict, type(None)),
    "maps": (list,),
    "max_tokens": (int, type(None)),
    "sha256": (str,),
}


class HuggingFaceEncoder:
    """A pretrained image or text model in a local folder, or on the hub.

    Args:
        model: A folder written by ``save_pretrained``, or a name like ``facebook/dinov2-small``
            whose files were downloaded before.
        revision: Branch, tag or commit on the hub.
        modality: ``"image"`` or ``"text"``; None takes what the model reads, of CLIP the images.
        output: ``"pooled"`` is the model's own summary, ``"cls"`` its first token,
            ``"mean"`` the mean over patches or words, ``"projection"`` the space that CLIP's
            images and texts share. None means projection for CLIP, pooled for other image models
            and mean for other text models.
        normalize: Scale keys to length 1.
        preprocess: Instead of what the folder says, see ``OnnxEncoder``.
        size: Instead of what the folder says: a side or (height, width).
        maps: Stages that ``encode_maps`` returns; None takes every stage but the stem, of models
            with more than six stages every fourth part, of those without stages ``"patches"``.
        max_tokens: Longer texts are cut; None takes what the model allows.
        allow_download: Fetch what is not here yet from the hub.
        device: Where to run, ``"cpu"`` or ``"cuda"``.
        batch_size: Inputs in one run.
        sha256: Refuse files whose hash, as in ``spec``, is another.

    Raises:
        EncoderFault: No such model, one of another kind, or weights that are not safetensors.
        EncoderMismatch: The files are not those whose hash was given.
        InvalidParameter: An option outside its range.
        MissingExtra: transformers or torch is not installed.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        revision: str | None = None,
        modality: Modality | None = None,
        output: Output | None = None,
        normalize: bool = False,
        preprocess: str | Preprocessing | None = None,
        size: Size | None = None,
        maps: Sequence[str] | None = None,
        max_tokens: int | None = None,
        allow_download: bool = False,
        device: str = "cpu",
        batch_size: int = 32,
        sha256: str | None = None,
    ) -> None:
        load_torch()
        self._revision, self._device, self._normalize = revision, device, bool(normalize)
        self._batch_size = check_count("batch_size", batch_size)
        self.folder = find_folder(str(model), revision=revision, allow_download=allow_download)
        self._name = str(self.folder) if Path(model).expanduser().is_dir() else str(model)
        self._config = load_pretrained(self.folder, "AutoConfig")
        self._kind = str(self._config.model_type)
        self._modality = _modality(self.folder, self._kind, modality)
        self._sha256 = hash_files(self.folder, decisive_files(self.folder, self._modality))
        check_hash(self.folder, expected=sha256, got=self._sha256)
        self._output = _output(self._kind, self._modality, output)
        self._preprocessing: Preprocessing | None = None
        self._max_tokens: int | None = None
        if self._modality == "image":
            self._preprocessing = self._find_preprocessing(preprocess, size)
            if self._preprocessing.size is None:
                # Pictures of several sizes do not fit into one run.
                self._batch_size = 1
        else:
            self._tokenizer = load_pretrained(self.folder, "AutoTokenizer")
            self._max_tokens = self._find_limit(max_tokens)
        self._tower, self._projection = self._load_tower()
        self._backbone: Any = None
        self._maps = self._find_maps(maps)
        self._dim = int(self.encode_prepared([self._sample()]).shape[1])

    def __repr__(self) -> str:
        return f"HuggingFaceEncoder({self._name!r}, output={self._output!r}, dim={self._dim})"

    def __deepcopy__(self, memo: object) -> HuggingFaceEncoder:
        # It never changes; scikit-learn copies the parameters of its estimators.
        return self

    def __reduce__(self) -> tuple[Callable[..., HuggingFaceEncoder], tuple[dict[str, Any]]]:
        # For worker processes, which load the model again.
        return HuggingFaceEncoder.from_spec, (self.spec,)

    @property
    def dim(self) -> int:
        """Width of a key."""
        return self._dim

    @property
    def modality(self) -> Modality:
        """``"image"`` or ``"text"``."""
        return self._modality

    @property
    def maps(self) -> tuple[str, ...]:
        """Stages that ``encode_maps`` returns."""
        return self._maps

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How pictures become inputs; None for texts."""
        return self._preprocessing

    @property
    def fingerprint(self) -> str:
        """Covers the files that decide a key, and every setting; not where they lie."""
        settings = {
            name: value for name, value in self.spec.items() if name not in {"model", "revision"}
        }
        return fingerprint("huggingface", settings | {"version": 1, "decoding": DECODING})

    @property
    def spec(self) -> dict[str, Any]:
        """Recipe for ``from_spec``."""
        ready = self._preprocessing
        return {
            "type": "huggingface",
            "model": self._name,
            "revision": self._revision,
            "modality": self._modality,
            "output": self._output,
            "normalize": self._normalize,
            "preprocessing": None if ready is None else ready.as_spec(),
            "maps": list(self._maps),
            "max_tokens": self._max_tokens,
            "sha256": self._sha256,
        }

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> HuggingFaceEncoder:
        """Build from ``spec``; nothing is fetched, and the files must be the same."""
        fields = checked_fields("huggingface", spec, _FIELDS)
        ready = fields.pop("preprocessing")
        preprocess = None if ready is None else Preprocessing.from_spec(ready)
        return cls(fields.pop("model"), preprocess=preprocess, **fields)

    def encode(self, inputs: Sequence[Any]) -> Floats:
        """Encode images or texts to float32 ``(n, dim)``."""
        return encode_each(self, inputs, batch_size=self._batch_size)

    def encode_maps(
        self, inputs: Sequence[Any], names: Sequence[str] | None = None
    ) -> dict[str, Floats]:
        """Return feature maps by stage, each float32 ``(n, C, H, W)``; None means ``maps``.

        Raises:
            EncoderFault: The model gives no maps, or has no such stage.
        """
        wanted = self._maps if names is None else self._find_maps(names)
        if not wanted:
            raise self._fault("gives no feature maps", "a model of images", self._modality)
        parts = [
            self._run_maps(self._images(batch), wanted)
            for batch in prepared_batches(self.prepare, inputs, self._batch_size)
        ]
        return {name: joined(name, [part[name] for part in parts]) for name in wanted}

    def prepare(self, value: Any) -> Any:
        """Make one picture small; a text stays as it is."""
        return value if self._preprocessing is None else self._preprocessing(value)

    def encode_prepared(self, batch: Sequence[Any]) -> Floats:
        """Run the model in batches, texts of like length together."""
        order = sorted(range(len(batch)), key=lambda i: len(batch[i]))
        parts = []
        for start in range(0, len(order), self._batch_size):
            chosen = [batch[i] for i in order[start : start + self._batch_size]]
            parts.append(self._run(chosen))
        keys = np.concatenate(parts)
        return keys[np.argsort(order)]

    def _run(self, batch: Sequence[Any]) -> Floats:
        torch = load_torch()
        with evaluating(self._tower):
            try:
                inputs = self._inputs(batch)
                keys = self._reduce(self._tower(**inputs), inputs)
            except EncoderFault:
                raise
            except Exception as error:
                got = f"{type(error).__name__}: {error}"[:300]
                raise self._fault("failed", "these inputs to work", got) from error
            if self._normalize:
                keys = torch.nn.functional.normalize(keys.float(), dim=-1)
            values: Floats = keys.to("cpu", torch.float32).numpy()
        return values

    def _inputs(self, batch: Sequence[Any]) -> dict[str, Any]:
        if self._modality == "text":
            tokens = self._tokenizer(
                list(batch),
                padding=True,
                truncation=True,
                max_length=self._max_tokens,
                return_tensors="pt",
            )
            return {name: each.to(self._device) for name, each in tokens.items()}
        return self._images(batch)

    def _images(self, batch: Sequence[Any]) -> dict[str, Any]:
        images = load_torch().from_numpy(np.stack(batch)).to(self._device)
        trained_at = getattr(_side_config(self._config, "vision_config"), "image_size", None)
        if self._kind in {"clip", "deit", "vit"} and images.shape[2:] != (trained_at, trained_at):
            return {"pixel_values": images, "interpolate_pos_encoding": True}
        return {"pixel_values": images}

    def _reduce(self, outputs: Any, inputs: Mapping[str, Any]) -> Any:
        """One vector an input, out of what the model gave."""
        if self._output in {"pooled", "projection"}:
            summary = getattr(outputs, "pooler_output", None)
            if summary is None:
                raise self._fault("has no summary of its own", "output='mean' or 'cls'", "pooled")
            summary = summary.flatten(1)
            return self._projection(summary) if self._output == "projection" else summary
        states = outputs.last_hidden_state
        if states.ndim == 4:
            states = states.flatten(2).transpose(1, 2)
        if self._modality == "text":
            return states[:, 0] if self._output == "cls" else _masked_mean(states, inputs)
        prefix = self._prefix(states, inputs["pixel_values"])
        if self._output == "mean":
            return states[:, prefix:].mean(dim=1)
        if prefix == 0:
            raise self._fault("has no first token", "output='mean' or 'pooled'", "cls")
        return states[:, 0]

    def _prefix(self, states: Any, images: Any) -> int:
        """How many tokens stand before those of the patches: CLS and registers."""
        patch = getattr(_side_config(self._config, "vision_config"), "patch_size", None)
        if not isinstance(patch, int):
            return 0
        grid = int(images.shape[2] // patch) * int(images.shape[3] // patch)
        return max(int(states.shape[1]) - grid, 0)

    def _run_maps(self, inputs: dict[str, Any], names: Sequence[str]) -> dict[str, Floats]:
        torch = load_torch()
        model = self._tower if names == ("patches",) else self._load_backbone(names)
        with evaluating(model):
            try:
                outputs = model(**inputs)
            except Exception as error:
                got = f"{type(error).__name__}: {error}"[:300]
                raise self._fault("failed", "these pictures to work", got) from error
            if names == ("patches",):
                found = {"patches": self._grid(outputs.last_hidden_state, inputs["pixel_values"])}
            else:
                found = dict(zip(model.out_features, outputs.feature_maps, strict=True))
            maps = {name: each.to("cpu", torch.float32).numpy() for name, each in found.items()}
        if all(np.isfinite(each).all() for each in maps.values()):
            return maps
        raise self._fault("gave no feature maps", "finite floats", "NaN or infinity")

    def _grid(self, states: Any, images: Any) -> Any:
        """Patch tokens ``(n, tokens, C)`` as a map ``(n, C, H, W)``."""
        patch = _side_config(self._config, "vision_config").patch_size
        height, width = images.shape[2] // patch, images.shape[3] // patch
        cells = states[:, self._prefix(states, images) :].transpose(1, 2)
        return cells.unflatten(2, (height, width))

    def _load_tower(self) -> tuple[Any, Any]:
        """The part of the model that is needed, and the projection into CLIP's shared space."""
        # The summary may start at random where it is not used.
        unused = () if self._output == "pooled" else ("pooler.",)
        model = self._load_weights("AutoModel", unused)
        if self._kind != "clip":
            return model, None
        if self._modality == "image":
            return model.vision_model, model.visual_projection
        return model.text_model, model.text_projection

    def _load_backbone(self, names: Sequence[str]) -> Any:
        if self._backbone is None or tuple(self._backbone.out_features) != tuple(names):
            # AutoBackbone would ask the hub whether it knows the folder.
            kind = backbones()[type(self._config)]
            # These scale the maps by 1 and 0 where the model was trained without them.
            unused = ("hidden_states_norms.",)
            self._backbone = self._load_weights(kind, unused, out_features=list(names))
        return self._backbone

    def _load_weights(self, kind: Any, unused: tuple[str, ...], **options: Any) -> Any:
        """Load a model whole: what a checkpoint lacks would start at random."""
        model, info = load_pretrained(
            self.folder, kind, use_safetensors=True, output_loading_info=True, **options
        )
        missing = [name for name in info["missing_keys"] if not name.startswith(unused)]
        if missing or info["mismatched_keys"]:
            got = f"none for {', '.join(sorted(missing)[:5])}" if missing else "other shapes"
            raise self._fault("has weights missing", "every weight in the files", got)
        return model.float().to(self._device)

    def _find_maps(self, asked: Sequence[str] | None) -> tuple[str, ...]:
        """Names of stages in the model's order."""
        if self._modality == "text":
            return ()
        if type(self._config) not in backbones():
            has_patches = isinstance(
                getattr(_side_config(self._config, "vision_config"), "patch_size", None), int
            )
            known: tuple[str, ...] = ("patches",) if has_patches else ()
        else:
            known = tuple(self._config.stage_names)
        if asked is not None:
            if not set(asked) <= set(known):
                raise invalid("maps", f"some of {', '.join(known) or 'no stages'}", list(asked))
            return tuple(name for name in known if name in asked)
        stages = tuple(name for name in known if name != "stem")
        if len(stages) <= 6:
            return stages
        return tuple(stages[len(stages) * (i + 1) // _STAGES - 1] for i in range(_STAGES))

    def _find_preprocessing(
        self, preprocess: str | Preprocessing | None, size: Size | None
    ) -> Preprocessing:
        written = read_preprocessing(self.folder) if preprocess is None else preprocess
        if written is None:
            raise self._fault("says nothing about its input", "a preprocessor_config.json", "none")
        return preprocessing(written, size=size)

    def _find_limit(self, asked: int | None) -> int:
        """The longest text in tokens: what is asked for, and what the model can take."""
        config = _side_config(self._config, "text_config")
        positions = getattr(config, "max_position_embeddings", 512)
        if self._kind in _SHIFTED_POSITIONS:
            positions -= (config.pad_token_id or 0) + 1
        sentence = read_json(self.folder / "sentence_bert_config.json")
        trained = sentence.get("max_seq_length") if isinstance(sentence, dict) else None
        if asked is not None:
            check_count("max_tokens", asked)
        limits = (asked, trained, positions, self._tokenizer.model_max_length)
        return min(int(each) for each in limits if each is not None)

    def _sample(self) -> Any:
        if self._preprocessing is None:
            return "a"
        return self._preprocessing(
            np.full((*(self._preprocessing.size or (224, 224)), 3), 128, np.uint8)
        )

    def _fault(self, what: str, expected: str, got: str) -> EncoderFault:
        return EncoderFault(
            f"the model {self._name!r} {what}",
            expected=expected,
            got=got,
            remedy="Choose another output or model, or say what its folder leaves open.",
        )


def _modality(folder: Path, kind: str, asked: Modality | None) -> Modality:
    reads: dict[Modality, bool] = {"image": kind in IMAGE_MODELS, "text": kind in TEXT_MODELS}
    if asked is not None and asked not in reads:
        raise invalid("modality", "'image' or 'text'", asked)
    for modality, known in reads.items():
        if known and asked in {None, modality}:
            return modality
    names = ", ".join(sorted({*IMAGE_MODELS, *TEXT_MODELS}))
    raise EncoderFault(
        f"the model in {str(folder)!r} is of a kind that is not used here",
        expected=names if asked is None else f"a model that reads a {asked}",
        got=kind,
        remedy="Use another model, or export this one to ONNX.",
    )


def _output(kind: str, modality: Modality, asked: str | None) -> str:
    if asked is None:
        if kind == "clip":
            return "projection"
        return "pooled" if modality == "image" else "mean"
    if asked not in _OUTPUTS or (asked == "projection" and kind != "clip"):
        choices = _OUTPUTS if kind == "clip" else _OUTPUTS[:-1]
        raise invalid("output", " or ".join(map(repr, choices)), asked)
    return asked


def _side_config(config: Any, side: str) -> Any:
    """CLIP keeps the settings of its two halves apart."""
    return getattr(config, side, config)


def _masked_mean(states: Any, inputs: Mapping[str, Any]) -> Any:
    """Mean over the tokens that are no padding."""
    mask = inputs["attention_mask"].unsqueeze(-1).to(states.dtype)
    return (states * mask).sum(dim=1) / mask.sum(dim=1)
