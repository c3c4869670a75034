"""Images and texts encoded per second, from bytes to keys, medians of several runs.

    python benchmarks/encoders.py --rows 1000 --json benchmarks/results/encoders.json

Needs CIFAR-10 (parquet) in RECOLLECT_DATA, and for the pretrained encoders RECOLLECT_MODELS.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet

from recollect.encoders import EncodingCache, encode_all, from_name
from recollect.encoders.batching import available_cores

SHARED = Path(__file__).resolve().parents[2] / "shared"
MOBILENET = "?preprocess=mobilenet&resize=squash&interpolation=bicubic&size="


def folder(variable: str, name: str) -> Path:
    return Path(os.environ.get(variable) or SHARED / name)


def encoders() -> list[str]:
    """Names of what is measured, as on the command line; pretrained ones where they are."""
    names = ["pixels", "hog"]
    model = folder("RECOLLECT_MODELS", "models") / "mobilenet_v2_imagenet"
    if model.is_dir():
        names += [f"onnx:{model}{MOBILENET}{size}" for size in (96, 160)]
    return names


def per_second(work: Callable[[], object], rows: int, repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return rows / statistics.median(seconds)


def measure(name: str, inputs: list[Any], repeats: int) -> dict[str, Any]:
    encoder = from_name(name)
    with EncodingCache() as cache:
        encode_all(encoder, inputs, cache=cache)
        return {
            "encoder": name.rpartition("/")[2],
            "dim": encoder.dim,
            "encode": per_second(lambda: encoder.encode(inputs), len(inputs), repeats),
            "cached": per_second(
                lambda: encode_all(encoder, inputs, cache=cache), len(inputs), repeats
            ),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    table = pyarrow.parquet.read_table(folder("RECOLLECT_DATA", "data") / "cifar10/test.parquet")
    pictures = table["image"].slice(0, options.rows).to_pylist()
    texts = [f"a photo of number {number}" for number in range(options.rows)]
    found = [measure(name, pictures, options.repeats) for name in encoders()]
    found.append(measure("hashing-text", texts, options.repeats))
    model = folder("RECOLLECT_MODELS", "models") / "minilm_l6_text"
    if model.is_dir():
        found.append(measure(f"text:{model}", texts, options.repeats))

    print(f"{len(pictures)} inputs, {available_cores()} cores, inputs per second")
    for each in found:
        print(f"{each['encode']:10.0f} {each['cached']:10.0f} from the cache   {each['encoder']}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        result = {"rows": len(pictures), "cores": available_cores(), "encoders": found}
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
