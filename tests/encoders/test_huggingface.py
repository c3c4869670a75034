"""Models of Hugging Face: every output, maps, preprocessing as written, and nothing but data."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import subprocess
import sys
from functools import lru_cache

import numpy as np
import pytest
import torch
import transformers
from encoders.tiny_models import SQUASH, bert, clip, convnext, dinov2, saved, swin

from recollect.encoders import HuggingFaceEncoder, from_spec
from recollect.encoders.hub import read_preprocessing
from recollect.errors import EncoderFault, EncoderMismatch, InputError, InvalidParameter

PICTURES = list(np.random.default_rng(0).integers(0, 256, (3, 40, 60, 3), dtype=np.uint8))


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory):
    """Folders that no test changes, made once."""
    return lru_cache(lambda make: make(tmp_path_factory.mktemp(make.__name__)))


def reference(model, pictures, *, size=32):
    """The library's own processor and model, one after the other."""
    processor = transformers.AutoImageProcessor.from_pretrained(model)
    inputs = processor(
        pictures, size={"height": size, "width": size}, return_tensors="pt", device="cpu"
    )
    with torch.no_grad():
        return transformers.AutoModel.from_pretrained(model).eval()(**inputs)


def test_dinov2_pooled_is_what_the_library_itself_gives(tmp_path):
    """The whole way from pixels to key, beside the original."""
    folder = dinov2(tmp_path)
    (folder / "preprocessor_config.json").write_text(
        json.dumps(SQUASH | {"image_processor_type": "ViTImageProcessor"})
    )

    keys = HuggingFaceEncoder(folder).encode(PICTURES)

    expected = reference(folder, PICTURES).pooler_output.numpy()
    np.testing.assert_allclose(keys, expected, atol=2e-3)


def test_the_first_token_and_the_mean_of_patches_are_outputs(folder_of):
    """DINOv2 has 16 patches of 8 x 8 behind its first token."""
    folder = folder_of(dinov2)
    states = _states(folder)

    first = HuggingFaceEncoder(folder, output="cls").encode(PICTURES)
    mean = HuggingFaceEncoder(folder, output="mean").encode(PICTURES)

    assert states.shape == (3, 17, 8)
    np.testing.assert_allclose(first, states[:, 0], atol=1e-5)
    np.testing.assert_allclose(mean, states[:, 1:].mean(axis=1), atol=1e-5)


def _states(folder):
    inputs = np.stack([HuggingFaceEncoder(folder).preprocessing(each) for each in PICTURES])
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(pixel_values=torch.from_numpy(inputs)).last_hidden_state.numpy()


def test_dinov2_gives_maps_of_its_layers(tmp_path):
    """Patch tokens as a grid; of eight layers every second."""
    encoder = HuggingFaceEncoder(dinov2(tmp_path, layers=8))

    maps = encoder.encode_maps(PICTURES)

    assert {name: each.shape for name, each in maps.items()} == {
        "stage2": (3, 8, 4, 4),
        "stage4": (3, 8, 4, 4),
        "stage6": (3, 8, 4, 4),
        "stage8": (3, 8, 4, 4),
    }


def test_convnext_is_a_backbone_with_a_pyramid(folder_of):
    """Strides 4, 8, 16 and 32, finest first."""
    encoder = HuggingFaceEncoder(folder_of(convnext), size=64)

    maps = encoder.encode_maps(PICTURES)

    assert encoder.maps == ("stage1", "stage2", "stage3", "stage4")
    assert [each.shape for each in maps.values()] == [
        (3, 4, 16, 16),
        (3, 4, 8, 8),
        (3, 6, 4, 4),
        (3, 6, 2, 2),
    ]
    assert encoder.encode(PICTURES).shape == (3, 6)


def test_swin_is_a_backbone_with_a_pyramid(tmp_path):
    """Windows instead of convolutions, the same maps."""
    maps = HuggingFaceEncoder(swin(tmp_path)).encode_maps(PICTURES)

    assert [each.shape for each in maps.values()] == [(3, 4, 8, 8), (3, 8, 4, 4)]


def test_stages_can_be_chosen(folder_of):
    """Here, or for one call; in the model's order."""
    encoder = HuggingFaceEncoder(folder_of(convnext), maps=["stage3", "stage2"])

    assert encoder.maps == ("stage2", "stage3")
    assert list(encoder.encode_maps(PICTURES, ["stage1"])) == ["stage1"]
    assert list(encoder.encode_maps(PICTURES)) == ["stage2", "stage3"]
    with pytest.raises(InvalidParameter, match="stage1, stage2, stage3, stage4"):
        encoder.encode_maps(PICTURES, ["stage9"])


def test_maps_of_one_picture_are_those_of_a_batch(folder_of):
    """Within the rounding of torch."""
    encoder = HuggingFaceEncoder(folder_of(convnext))

    alone, together = encoder.encode_maps(PICTURES[1:2]), encoder.encode_maps(PICTURES)

    np.testing.assert_allclose(alone["stage2"][0], together["stage2"][1], atol=1e-5)


def test_clip_images_and_texts_share_a_space(folder_of):
    """As CLIPModel's own forward pass gives them, up to length."""
    folder = folder_of(clip)
    images = HuggingFaceEncoder(folder, normalize=True)
    texts = HuggingFaceEncoder(folder, modality="text", normalize=True)
    pixels = np.stack([images.preprocessing(each) for each in PICTURES])
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(
        ["a red car", "tree"], padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        both = transformers.CLIPModel.from_pretrained(folder).eval()(
            pixel_values=torch.from_numpy(pixels),
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
        )

    np.testing.assert_allclose(images.encode(PICTURES), both.image_embeds.numpy(), atol=1e-5)
    np.testing.assert_allclose(
        texts.encode(["a red car", "tree"]), both.text_embeds.numpy(), atol=1e-5
    )
    assert images.fingerprint != texts.fingerprint


def test_clip_gives_its_patches_as_a_map_at_any_size(folder_of):
    """Positions are interpolated beyond the size it was trained at."""
    encoder = HuggingFaceEncoder(folder_of(clip), size=(32, 64))

    assert encoder.encode_maps(PICTURES)["patches"].shape == (3, 8, 4, 8)


def test_long_texts_are_cut_to_what_the_model_takes(folder_of):
    """Twelve positions in this one: more would be an error deep inside."""
    encoder = HuggingFaceEncoder(folder_of(bert))

    long, longer = encoder.encode(["red " * 10, "red " * 1_000])

    assert encoder.spec["max_tokens"] == 12
    assert long.tolist() == longer.tolist()


@pytest.mark.parametrize(
    ("kind", "settings", "size", "crop", "resize"),
    [
        ("CLIPImageProcessorPil", {}, 224, 1.0, "crop"),
        ("BitImageProcessorPil", {"size": {"shortest_edge": 256}}, 224, 0.875, "crop"),
        ("ConvNextImageProcessorPil", {"size": {"shortest_edge": 224}}, 224, 0.875, "crop"),
        ("ConvNextImageProcessorPil", {"size": {"shortest_edge": 384}}, 384, 1.0, "squash"),
        ("ViTImageProcessorPil", {}, 224, 1.0, "squash"),
    ],
)
def test_preprocessing_is_read_as_its_own_processor_does_it(
    tmp_path, kind, settings, size, crop, resize
):
    """Beside the original processors; their resize rounds to whole pixels before the crop."""
    processor = getattr(transformers, kind)(**settings)
    processor.save_pretrained(tmp_path)
    picture = _smooth(300, 420)

    ready = read_preprocessing(tmp_path)

    expected = processor(picture, return_tensors="np")["pixel_values"][0]
    levels = np.abs(ready(picture) - expected) * np.reshape(ready.scale, (3, 1, 1))
    assert (ready.size, ready.crop, ready.resize) == ((size, size), crop, resize)
    assert levels.mean() < 2
    assert levels.max() < 10


def _smooth(height, width):
    """Waves of color: a picture whose pixels move little when it is shifted by half a pixel."""
    y, x = np.mgrid[:height, :width] / 40
    waves = np.stack([np.sin(x), np.cos(y), np.sin(x + y)], axis=2)
    return np.rint(127.5 + 127.5 * waves).astype(np.uint8)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"size": 224}, ((224, 224), "squash", 1.0)),
        ({"size": 224, "do_center_crop": True, "crop_size": 224}, ((224, 224), "crop", 1.0)),
        ({"size": 224, "crop_pct": 0.875}, ((224, 224), "crop", 0.875)),
        ({"size": {"shortest_edge": 64}}, ((64, 64), "crop", 1.0)),
        ({"do_resize": False}, (None, "crop", 1.0)),
    ],
)
def test_older_spellings_of_sizes_are_understood(tmp_path, settings, expected):
    """Files on the hub are years old."""
    whole = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3} | settings
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(whole))

    ready = read_preprocessing(tmp_path)

    assert (ready.size, ready.resize, ready.crop) == expected


@pytest.mark.parametrize(
    "settings",
    [
        {"size": {"longest_edge": 100}},
        {"size": "large"},
        {"size": 32, "image_mean": None},
        {"size": 32, "do_center_crop": True, "crop_size": 64},
        {"size": 32, "image_std": [0, 0, 0]},
        {"size": 32, "resample": 99},
        {"size": 10**9},
        {"size": 32, "rescale_factor": 0},
        {"size": []},
    ],
)
def test_settings_that_are_not_understood_are_refused(tmp_path, settings):
    """A guess would make keys that are wrong and look right."""
    whole = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3} | settings
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(whole))

    with pytest.raises(EncoderFault, match="an image processor that resizes"):
        read_preprocessing(tmp_path)


@pytest.mark.parametrize("content", ["[]", "3", "{", "[" * 100_000, '{"size": 1e999}'])
def test_a_broken_settings_file_is_refused(tmp_path, content):
    """Half a download, or somebody's joke."""
    (tmp_path / "preprocessor_config.json").write_text(content)

    with pytest.raises(EncoderFault, match="cannot be loaded"):
        read_preprocessing(tmp_path)


def test_a_folder_without_settings_needs_them_said(tmp_path):
    """The remedy works."""
    folder = dinov2(tmp_path)
    (folder / "preprocessor_config.json").unlink()

    with pytest.raises(EncoderFault, match="says nothing about its input"):
        HuggingFaceEncoder(folder)
    assert HuggingFaceEncoder(folder, preprocess="dinov2", size=32).dim == 8


def test_pictures_of_their_own_size(folder_of):
    """Keys, and maps where the sizes agree."""
    encoder = HuggingFaceEncoder(folder_of(convnext), size="native")

    assert encoder.encode([PICTURES[0], PICTURES[1][:, :40]]).shape == (2, 6)
    with pytest.raises(InputError, match="several shapes in one batch"):
        encoder.encode_maps([PICTURES[0], PICTURES[1][:, :40]])


def test_pickled_weights_are_refused(tmp_path):
    """Loading them could run code."""
    folder = dinov2(tmp_path)
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()

    with pytest.raises(EncoderFault, match=r"got pytorch_model\.bin, which could run code"):
        HuggingFaceEncoder(folder)


def test_code_in_the_folder_is_never_run(tmp_path):
    """A config may name a class in a Python file beside it."""
    folder = dinov2(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine", "AutoModel": "mine.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")

    with pytest.raises(EncoderFault, match="cannot be loaded"):
        HuggingFaceEncoder(folder)

    assert not (tmp_path / "ran").exists()


def test_missing_weights_are_refused(tmp_path):
    """They would start at random: BERT without its summary, asked for its summary."""
    folder = bert(tmp_path, pooler=False)

    assert HuggingFaceEncoder(folder, output="mean").dim == 8
    with pytest.raises(EncoderFault, match=r"got none for pooler\.dense\.bias"):
        HuggingFaceEncoder(folder, output="pooled")


def test_truncated_weights_are_refused(tmp_path):
    """Half a download."""
    path = dinov2(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(EncoderFault, match="cannot be loaded"):
        HuggingFaceEncoder(tmp_path)


def test_changed_weights_are_another_encoder(tmp_path):
    """And the recipe of the first refuses them."""
    encoder = HuggingFaceEncoder(dinov2(tmp_path))
    path = tmp_path / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    assert HuggingFaceEncoder(tmp_path).fingerprint != encoder.fingerprint
    with pytest.raises(EncoderMismatch, match="has changed"):
        from_spec(encoder.spec)


def test_a_moved_folder_is_the_same_encoder(tmp_path):
    """Files that do not decide a key may come and go."""
    encoder = HuggingFaceEncoder(dinov2(tmp_path / "a"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "README.md").write_text("moved")

    assert HuggingFaceEncoder(tmp_path / "b").fingerprint == encoder.fingerprint


def test_models_of_other_kinds_are_refused(tmp_path):
    """The list is closed: some models fetch others."""
    config = transformers.GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=9)
    folder = saved(transformers.GPT2Model(config), tmp_path)

    with pytest.raises(EncoderFault, match=r"of a kind that is not used here.*got gpt2"):
        HuggingFaceEncoder(folder)


@pytest.mark.parametrize(
    "options",
    [
        {"output": "projection"},
        {"output": "logits"},
        {"modality": "sound"},
        {"batch_size": 0},
        {"maps": ["patches"]},
        {"size": -1},
        {"preprocess": "resnet"},
    ],
)
def test_options_that_cannot_be_are_refused(folder_of, options):
    """When the encoder is made."""
    with pytest.raises(InvalidParameter):
        HuggingFaceEncoder(folder_of(dinov2), **options)


def test_an_image_model_reads_no_text(folder_of):
    """Only CLIP does both."""
    with pytest.raises(EncoderFault, match="a model that reads a text"):
        HuggingFaceEncoder(folder_of(dinov2), modality="text")


def test_a_text_model_gives_no_maps(folder_of):
    """There is no grid of words."""
    with pytest.raises(EncoderFault, match="gives no feature maps"):
        HuggingFaceEncoder(folder_of(bert)).encode_maps(["red"])


def test_a_network_without_a_first_token_says_so(folder_of):
    """A convolution has none."""
    with pytest.raises(EncoderFault, match="has no first token"):
        HuggingFaceEncoder(folder_of(convnext), output="cls")


@pytest.mark.parametrize("name", ["../../etc", "no/such/folder", "a b", ""])
def test_a_folder_that_does_not_exist_is_refused(name):
    """And not taken for a name on the hub."""
    with pytest.raises(EncoderFault, match="cannot be loaded"):
        HuggingFaceEncoder(name)


OFFLINE = """
import socket, sys

def refuse(*arguments, **options):
    print("NETWORK", arguments)
    sys.exit(3)

socket.socket.connect = socket.getaddrinfo = refuse
from recollect.encoders import HuggingFaceEncoder
from recollect.errors import EncoderFault

try:
    HuggingFaceEncoder("some-organization/some-model")
except EncoderFault as error:
    print(error.remedy)
print("done")
"""


def test_nothing_is_fetched_unless_asked(tmp_path):
    """A name whose files are not here is an error, not a download."""
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE],
        env={"PYTHONPATH": ":".join(sys.path), "HF_HOME": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.splitlines() == [
        "Download it first, or allow it: allow_download=True, or ORG/NAME?allow_download=true.",
        "done",
    ]


def test_copies_and_worker_processes_get_the_same_encoder(folder_of):
    """scikit-learn copies the parameters of its estimators, joblib sends them away."""
    encoder = HuggingFaceEncoder(folder_of(dinov2))

    assert copy.deepcopy(encoder) is encoder
    again = pickle.loads(pickle.dumps(encoder))  # noqa: S301 - our own bytes
    assert again.fingerprint == encoder.fingerprint
