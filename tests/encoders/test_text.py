"""Sentence encoders: tokens, pooling, and the two forms in which they come."""

from __future__ import annotations

import json

import numpy as np
import pytest
from encoders.tiny_models import WORDS, bert, clip, text_folder

from recollect.encoders import HuggingFaceEncoder, TextEncoder, from_spec
from recollect.errors import EncoderFault, EncoderMismatch, InvalidParameter


def test_an_onnx_key_is_the_mean_of_its_tokens(tmp_path):
    """[CLS] red car [SEP]: a quarter each, and no padding, whatever the file asks for."""
    encoder = TextEncoder(text_folder(tmp_path), normalize=False)

    key = encoder.encode(["red car"])[0]

    assert encoder.dim == len(WORDS)
    assert {word: share for word, share in zip(WORDS, key.tolist(), strict=True) if share} == {
        "[CLS]": 0.25,
        "[SEP]": 0.25,
        "red": 0.25,
        "car": 0.25,
    }


def test_keys_have_length_1(tmp_path):
    """Sentence encoders are compared by cosine."""
    keys = TextEncoder(text_folder(tmp_path)).encode(["red", "a photo of a blue tree"])

    np.testing.assert_allclose(np.linalg.norm(keys, axis=1), 1.0, rtol=1e-6)


def test_the_first_token_can_be_the_key(tmp_path):
    """[CLS] of every text."""
    encoder = TextEncoder(text_folder(tmp_path), pooling="cls")

    assert encoder.encode(["red", "blue"]).argmax(axis=1).tolist() == [2, 2]


def test_long_texts_are_cut(tmp_path):
    """Behind [CLS] and before [SEP] one word remains of three tokens."""
    encoder = TextEncoder(text_folder(tmp_path), max_tokens=3)

    long, short = encoder.encode(["red car tree", "red"])

    assert long.tolist() == short.tolist()


def test_a_changed_tokenizer_is_another_encoder(tmp_path):
    """Other tokens are another key, though the model is the same."""
    encoder = TextEncoder(text_folder(tmp_path))
    path = tmp_path / "tokenizer.json"
    path.write_text(path.read_text().replace("photo", "image"))

    assert TextEncoder(tmp_path).fingerprint != encoder.fingerprint
    with pytest.raises(EncoderMismatch, match="has changed"):
        from_spec(encoder.spec)


@pytest.mark.parametrize("content", ["", "{}", '{"model": 3}', "[" * 10_000])
def test_a_broken_tokenizer_is_refused(tmp_path, content):
    """An error of the tree, not of the library."""
    text_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text(content)

    with pytest.raises(EncoderFault, match="tokenizer"):
        TextEncoder(tmp_path)


def test_a_missing_tokenizer_is_refused(tmp_path):
    """Half a download."""
    text_folder(tmp_path)
    (tmp_path / "tokenizer.json").unlink()

    with pytest.raises(EncoderFault, match=r"tokenizer\.json' cannot be read"):
        TextEncoder(tmp_path)


def test_an_image_model_is_no_text_encoder(tmp_path):
    """Its input is no tokens."""
    from encoders.tiny_onnx import mean_color

    text_folder(tmp_path)
    (tmp_path / "model.onnx").write_bytes(mean_color())

    with pytest.raises(EncoderFault, match="inputs out of input_ids"):
        TextEncoder(tmp_path)


def test_a_hugging_face_folder_is_pooled_by_the_mean(tmp_path):
    """The usual form of sentence encoders."""
    encoder = TextEncoder(bert(tmp_path))

    plain = HuggingFaceEncoder(tmp_path, output="mean", normalize=True)
    assert encoder.fingerprint == plain.fingerprint
    np.testing.assert_allclose(np.linalg.norm(encoder.encode(["red", "a"]), axis=1), 1, rtol=1e-6)


def test_padding_does_not_change_a_mean(tmp_path):
    """A short text beside a long one is padded, and the padding must not count."""
    encoder = TextEncoder(bert(tmp_path))

    together = encoder.encode(["red", "a photo of a blue tree"])

    np.testing.assert_allclose(encoder.encode(["red"])[0], together[0], atol=1e-6)


@pytest.mark.parametrize(
    ("mode", "output"), [("pooling_mode_mean_tokens", "mean"), ("pooling_mode_cls_token", "cls")]
)
def test_a_folder_of_sentence_transformers_says_how_it_pools(tmp_path, mode, output):
    """Some models were trained on the first token, and are much worse with the mean."""
    bert(tmp_path)
    _sentence_transformers(tmp_path, {mode: True}, "Transformer", "Pooling", "Normalize")

    assert TextEncoder(tmp_path).spec["output"] == output


def test_a_folder_put_together_otherwise_is_refused(tmp_path):
    """A further layer would be left out in silence."""
    bert(tmp_path)
    _sentence_transformers(
        tmp_path, {"pooling_mode_mean_tokens": True}, "Transformer", "Pooling", "Dense"
    )

    with pytest.raises(EncoderFault, match="got Transformer, Pooling, Dense"):
        TextEncoder(tmp_path)


def test_clip_reads_texts_into_the_space_it_shares_with_images(tmp_path):
    """So that class names can be compared with pictures."""
    encoder = TextEncoder(clip(tmp_path))

    images = HuggingFaceEncoder(tmp_path)
    assert encoder.spec["output"] == images.spec["output"] == "projection"
    assert encoder.dim == images.dim


def test_a_folder_that_holds_no_model_is_refused(tmp_path):
    """Neither form."""
    with pytest.raises(EncoderFault, match="cannot be loaded"):
        TextEncoder(tmp_path)


def test_options_that_cannot_be_are_refused(tmp_path):
    """When the encoder is made."""
    folder = text_folder(tmp_path)
    for options in ({"max_tokens": 0}, {"pooling": "max"}, {"output": "x"}, {"threads": 0}):
        with pytest.raises(InvalidParameter):
            TextEncoder(folder, **options)


def _sentence_transformers(folder, pooling, *kinds):
    modules = [{"type": f"sentence_transformers.models.{kind}"} for kind in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 8} | pooling)
    )
