"""Encoders small enough to be built in every test: real code, random weights, real files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from encoders.tiny_onnx import mean_color, token_vectors

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "blue", "car", "tree", "photo", "of"]
# Height and width are 32, and colors are in -1..1.
SQUASH = {
    "do_resize": True,
    "size": {"height": 32, "width": 32},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def onnx_file(folder: Path, content: bytes | None = None) -> Path:
    """A model whose key is the mean of each channel."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    path.write_bytes(mean_color() if content is None else content)
    return path


def tokenizer():
    """One token a word, [CLS] before and [SEP] after, padded to 128 as some files ask."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    places = {word: place for place, word in enumerate(WORDS)}
    made = Tokenizer(models.WordLevel(places, "[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.enable_padding(length=128)
    return made


def text_folder(folder: Path, table: np.ndarray | None = None) -> Path:
    """A model that looks each token up in a table, and its tokenizer."""
    rows = np.eye(len(WORDS), dtype=np.float32) if table is None else table
    onnx_file(folder, token_vectors(rows))
    (folder / "tokenizer.json").write_text(tokenizer().to_str())
    return folder


def saved(model, folder: Path, processor: dict | None = SQUASH) -> Path:
    """Save as Hugging Face does, with a processor's settings beside it."""
    model.save_pretrained(folder)
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def dinov2(folder: Path, *, layers: int = 2) -> Path:
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=8, num_hidden_layers=layers, num_attention_heads=2, image_size=32, patch_size=8
    )
    return saved(transformers.Dinov2Model(config), folder)


def convnext(folder: Path) -> Path:
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.ConvNextConfig(
        hidden_sizes=[4, 4, 6, 6], depths=[1, 1, 1, 1], image_size=32
    )
    return saved(transformers.ConvNextModel(config), folder)


def swin(folder: Path) -> Path:
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.SwinConfig(
        embed_dim=4, depths=[1, 1], num_heads=[1, 1], window_size=2, image_size=32, patch_size=4
    )
    return saved(transformers.SwinModel(config), folder)


def clip(folder: Path) -> Path:
    import torch
    import transformers

    torch.manual_seed(0)
    sides = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = transformers.CLIPConfig(
        text_config=sides
        | {
            "vocab_size": len(WORDS),
            "max_position_embeddings": 10,
            "bos_token_id": 2,
            "eos_token_id": 3,
            "pad_token_id": 0,
        },
        vision_config=sides | {"image_size": 32, "patch_size": 8},
        projection_dim=5,
    )
    saved(transformers.CLIPModel(config), folder)
    return _with_tokenizer(folder, 10)


def bert(folder: Path, *, pooler: bool = True) -> Path:
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=12,
    )
    saved(transformers.BertModel(config, add_pooling_layer=pooler), folder, None)
    return _with_tokenizer(folder, 12)


def _with_tokenizer(folder: Path, longest: int) -> Path:
    import transformers

    made = tokenizer()
    made.no_padding()
    special = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
    }
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, model_max_length=longest, **special
    ).save_pretrained(folder)
    return folder
