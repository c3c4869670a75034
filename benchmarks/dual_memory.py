"""Beside the published procedure: `python benchmarks/dual_memory.py --json out.json`.

`observe` and `predict` are timed. The comparison is a straightforward implementation of the
published procedure in torch: one picture at a time, the whole memory normalized for each, as the
released code does. Features are given, one view, random directions; before the measurement the
memory is filled, so that all slots are read. Both run alternating in one process with the same
number of threads; the ratio is that of medians. Answers of both are compared.

`--learn 100` times instead how long offsets for 100 classes of 16 shots are learned.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recollect import DualMemoryClassifier
from recollect.heads.dual_memory.training import Training

SHOTS = 16
Floats = NDArray[np.float32]


class PerImage:
    """Section 3 and 6 of the method, one picture at a time, zero offsets, in float32."""

    def __init__(self, text: Floats, length: int, beta: float) -> None:
        self.text = torch.nn.functional.normalize(torch.from_numpy(text), dim=-1)
        classes, dim = text.shape
        self.memory = torch.zeros(classes, length, dim)
        self.entropy = torch.zeros(classes, length)
        self.count = torch.zeros(classes, dtype=torch.long)
        self.offset = torch.zeros(classes, dim)
        self.beta = beta

    def observe(self, x: torch.Tensor) -> torch.Tensor:
        text = self.text_probability(x)
        code = int(text.argmax())
        entropy = -(text * torch.log(text + 1e-8)).sum()
        held = int(self.count[code])
        if held < self.memory.shape[1]:
            self.memory[code, held], self.entropy[code, held] = x, entropy
            self.count[code] += 1
        elif entropy < self.entropy[code].max():
            slot = int(self.entropy[code].argmax())
            self.memory[code, slot], self.entropy[code, slot] = x, entropy
        return self.fused(x, text)

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        return self.fused(x, self.text_probability(x))

    def fused(self, x: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return (text + self.read(x)) / 2

    def text_probability(self, x: torch.Tensor) -> torch.Tensor:
        unit = torch.nn.functional.normalize(self.text + self.offset, dim=-1)
        return (100.0 * unit @ x).softmax(-1)

    def read(self, x: torch.Tensor) -> torch.Tensor:
        normalize = torch.nn.functional.normalize
        block = torch.cat([self.memory, self.text[:, None]], dim=1)
        empty = block.sum(-1) == 0
        query = normalize(x + self.offset.mean(0), dim=-1)
        keys = normalize(block + self.offset[:, None], dim=-1)
        values = normalize(block + self.offset[:, None], dim=-1)
        keys[empty] = 0
        values[empty] = 0
        weights = torch.exp(-self.beta * (1 - keys @ query))
        vectors = normalize((weights[..., None] * values).sum(1), dim=-1)
        vectors = normalize(vectors + self.offset, dim=-1)
        return (100.0 * vectors @ x).softmax(-1)


def directions(random: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    vectors = random.normal(size=shape).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def pictures(random: np.random.Generator, text: Floats, count: int) -> Floats:
    """Pictures somewhat near a name each, so that all classes fill up."""
    codes = np.arange(count) % len(text)
    noisy = text[codes] + 0.6 * directions(random, (count, text.shape[1]))
    return np.asarray(noisy / np.linalg.norm(noisy, axis=1, keepdims=True), np.float32)


def timed(call: Any, *given: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call(*given)
    return time.perf_counter() - start, result


def one_by_one(call: Any, few: torch.Tensor) -> Any:
    return torch.stack([call(x) for x in few]).numpy()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    random = np.random.default_rng(options.seed)
    # Names lie close together, as those of CLIP do: the softmax is not sure of everything.
    common = directions(random, (1, options.dim))
    text = common + 0.4 * directions(random, (options.classes, options.dim))
    text = np.asarray(text / np.linalg.norm(text, axis=1, keepdims=True), np.float32)
    head = DualMemoryClassifier(text, memory_length=options.length, beta=options.beta).fit()
    plain = PerImage(text, options.length, options.beta)
    begun = time.perf_counter()
    filled = options.fill * options.classes * options.length
    _fill(head, pictures(random, text, filled), text)
    filling = time.perf_counter() - begun
    _copy(head, plain)
    ours: dict[str, list[float]] = {"observe": [], "predict": []}
    theirs: dict[str, list[float]] = {"observe": [], "predict": []}
    worst = {"observe": 0.0, "predict": 0.0}
    for _ in range(options.rounds):
        for verb in ("observe", "predict"):
            batch = pictures(random, text, options.batch)
            # A stream is compared from its start, where both know the same; questions all over it.
            last = options.few if verb == "observe" else len(batch)
            which = np.linspace(0, last - 1, options.few).astype(int)
            few = torch.from_numpy(batch[which])
            spent, said = timed(_ask, head, verb, batch)
            ours[verb].append(spent / len(batch))
            spent, told = timed(one_by_one, getattr(plain, verb), few)
            theirs[verb].append(spent / len(few))
            gap = np.abs(said[which] - told).max()
            worst[verb] = max(worst[verb], float(gap))
            if verb == "observe":
                _copy(head, plain)
    return {
        "filling_seconds": round(filling, 1),
        "memory": _memory(head, options),
        **{verb: _ratio(ours[verb], theirs[verb], worst[verb]) for verb in ours},
    }


def learning(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of 20 passes over 16 shots of each class, at both precisions."""
    random = np.random.default_rng(options.seed)
    text = directions(random, (options.learn, options.dim))
    shots = pictures(random, text, SHOTS * options.learn)
    labels = np.arange(len(shots)) % options.learn
    found: dict[str, Any] = {"classes": options.learn, "shots": SHOTS, "dim": options.dim}
    for precision in ("float64", "float32"):
        how = Training(precision=precision)
        head = DualMemoryClassifier(text, offsets=how)
        found[precision], _ = timed(head.fit, shots, labels)
    return found


def _fill(head: DualMemoryClassifier, seen: Floats, text: Floats) -> None:
    """Write observed pictures as `observe` does, all at once and without answers to them."""
    labels = np.concatenate([(part @ text.T).argmax(axis=1) for part in np.array_split(seen, 50)])
    columns = {"part": "seen", "serial": np.arange(len(seen)).tolist()}
    head.memory_.add(seen, labels.tolist(), metadata=columns)
    head.predict_proba(seen[:1])


def _ask(head: DualMemoryClassifier, verb: str, batch: Floats) -> Any:
    return head.observe(batch).probability if verb == "observe" else head.predict_proba(batch)


def _copy(head: DualMemoryClassifier, plain: PerImage) -> None:
    """Give the comparison the same slots, so that its answers can be compared."""
    slots = head.slot_ids()
    for code, count in enumerate(slots.counts.tolist()):
        if count:
            keys = head.memory_.rows(slots.ids[code, :count]).keys
            plain.memory[code, :count] = torch.from_numpy(np.array(keys))
            plain.entropy[code, :count] = torch.from_numpy(slots.entropy[code, :count]).float()
    plain.count[:] = torch.from_numpy(slots.counts)


def _ratio(ours: list[float], theirs: list[float], worst: float) -> dict[str, float]:
    mine, other = statistics.median(ours), statistics.median(theirs)
    return {
        "images_per_second": round(1 / mine, 1),
        "per_image_torch": round(1 / other, 2),
        "ratio": round(other / mine, 1),
        "largest_difference": worst,
    }


def _memory(head: DualMemoryClassifier, options: argparse.Namespace) -> dict[str, float]:
    floats = options.classes * options.length * options.dim * 4
    held = head.derived_bytes()
    return {"bytes": held, "of_slots": floats, "ratio": round(held / floats, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--beta", type=float, default=5.5)
    parser.add_argument("--batch", type=int, default=512, help="pictures in one call of ours")
    parser.add_argument("--few", type=int, default=6, help="pictures the comparison is timed on")
    parser.add_argument("--fill", type=int, default=2, help="pictures before, for each slot")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--learn", type=int, default=0, help="classes to learn offsets for")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(options.threads)
    with threadpool_limits(options.threads), torch.no_grad():
        results = {"learning": learning(options)} if options.learn else measure(options)
    results["load"] = os.getloadavg()
    if options.learn:
        print(json.dumps(results))
    else:
        _show(results, options)
    if options.json:
        facts = {"options": vars(options), "results": results}
        options.json.write_text(json.dumps(facts, default=str, indent=2) + "\n")


def _show(results: dict[str, Any], options: argparse.Namespace) -> None:
    for verb in ("observe", "predict"):
        line = results[verb]
        print(
            f"{verb}: {line['images_per_second']:.0f} images/s, one by one in torch "
            f"{line['per_image_torch']:.2f}: {line['ratio']:.1f} times; probabilities differ by "
            f"at most {line['largest_difference']:.1e}"
        )
    print(f"memory: {results['memory']['ratio']:.3f} of the slots' floats")
    print(f"load: {results['load'][0]:.1f}, {options.threads} threads")


if __name__ == "__main__":
    main()
