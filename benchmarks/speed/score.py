"""Suite "score": the cost of scoring K responses to one prompt, for three models on one backbone.

    GPM      one row with the prompt and K responses; each response has an embedding, from which all pairs are scored
    BT       the same row; each response has a reward
    PairPM   a model of pairs, which reads both orders of each pair: K(K − 1) sequences of two responses; here they
      share the prompt of their row, which is in PairPM's favour

Tokens and weights are random, since the time does not depend on them. gpmjax.reports.plots.scoring draws the figures.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags

from benchmarks.speed import jobs, measure
from gpmjax.arrays import TokenBatch
from gpmjax.data.assemble import BatchShape, assemble
from gpmjax.data.encode import EncodedGroup
from gpmjax.files import write_json
from gpmjax.models.config import Runtime
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.scores import group_scores
from gpmjax.models.spec import PreferenceSpec
from gpmjax.reports.plots import style
from gpmjax.reports.plots.scoring import scoring_cost

OUT = flags.DEFINE_string(
    "out", "benchmarks/results/speed_score.json", "File of the figures; the picture is written beside it."
)
QUICK = flags.DEFINE_bool("quick", False, "Use a model of two layers, and up to 8 responses.")
LAYERS = flags.DEFINE_integer("layers", 4, "Layers of SmolLM2's shape, which has 30.", 1)
PROMPT = flags.DEFINE_integer("prompt", 128, "Tokens of the prompt.", 1)
LENGTH = flags.DEFINE_integer("length", 16, "Tokens of a response.", 1)
MOST = flags.DEFINE_integer("responses", 64, "Largest K.", 2)
REPEATS = flags.DEFINE_integer("repeats", 3, "Turns.", 1)
ROW = 4096
"""Slots of a row that is filled with PairPM's sequences."""


def rows_of(prompt: np.ndarray, sequences: list[np.ndarray], slots: int) -> list[TokenBatch]:
    """Batches of one row of the same shape: the prompt and as many of the sequences as fit into ``slots``."""
    per_row = min(max((slots - len(prompt)) // len(sequences[0]), 1), len(sequences))
    parts = [sequences[first : first + per_row] for first in range(0, len(sequences), per_row)]
    shape = BatchShape(1, len(prompt) + per_row * len(sequences[0]), per_row, 1)
    return [assemble([[EncodedGroup(prompt, len(prompt) - 1, tuple(part), ())]], shape) for part in parts]


def contenders(layers: int) -> dict[str, Callable]:
    """Name → function of a batch that returns all of its scores, on the host."""
    runtime = Runtime(attention="blockwise")
    made = {}
    for name, spec in (
        ("GPM", jobs.SPEC),
        ("BT", PreferenceSpec.bradley_terry()),
        ("PairPM", PreferenceSpec.bradley_terry()),
    ):
        model = PreferenceModel(jobs.shape(layers), spec, runtime)
        tiny = rows_of(np.array([3]), [np.array([4])], 8)[0]
        params = jax.jit(model.init)(jax.random.key(0), tiny)["params"]

        def apply(params, batch, model=model, pairs=name != "PairPM"):
            output = model.apply({"params": params}, batch)
            return group_scores(output) if pairs else output.embedding

        made[name] = functools.partial(_on_host, jax.jit(apply), params)
    return made


def _score_all(score: Callable, batches: list[TokenBatch]) -> list[np.ndarray]:
    return [score(batch) for batch in batches]


def _on_host(apply: Callable, params: Any, batch: TokenBatch) -> np.ndarray:
    return np.asarray(apply(params, batch))


def power(values: list[float]) -> float | None:
    """p of values ≈ a + b·Kᵖ by the increments of the last three, at K, 2K and 4K; None where an increment is not
    positive."""
    steps = np.diff(values[-3:])
    return round(float(np.log2(steps[1] / steps[0])), 2) if steps.min() > 0 else None


def cost(layers: int, most: int, length: int, prompt_length: int, repeats: int) -> dict:
    draw, vocabulary = np.random.default_rng(0), jobs.shape(1).vocab_size
    prompt, *responses = (
        draw.integers(3, vocabulary, size).astype(np.int32) for size in (prompt_length, *[length] * most)
    )
    score, counts = contenders(layers), [2**n for n in range(1, int(np.log2(most)) + 1)]
    figures = {name: {"K": counts, "seconds": [], "forward_tokens": []} for name in score}
    for count in counts:
        some = responses[:count]
        pairs = [np.concatenate([some[i], some[j]]) for i in range(count) for j in range(count) if i != j]
        one = rows_of(prompt, some, len(prompt) + count * length)
        batches = {"GPM": one, "BT": one, "PairPM": rows_of(prompt, pairs, ROW)}
        runs = {name: functools.partial(_score_all, score[name], batches[name]) for name in score}
        seconds = measure.in_turns(runs, repeats)
        for name, times in seconds.items():
            figures[name]["seconds"].append(measure.spread(times))
            figures[name]["forward_tokens"].append(sum(int((batch.layout.group > 0).sum()) for batch in batches[name]))
    for line in figures.values():
        line["power_of_K"] = {
            "seconds": power([times["median"] for times in line["seconds"]]),
            "forward_tokens": power(line["forward_tokens"]),
        }
    ours = [times["median"] for times in figures["GPM"]["seconds"]]
    figures["GPM"]["seconds_of_one_more_response"] = float(f"{np.polyfit(counts, ours, 1)[0]:.4g}")
    return figures


def main(_: list[str]) -> None:
    layers, most = (2, 8) if QUICK.value else (LAYERS.value, MOST.value)
    report = {
        "suite": "score",
        "machine": measure.machine(),
        "layers": layers,
        "prompt": PROMPT.value,
        "length": LENGTH.value,
    }
    report["models"] = cost(layers, most, LENGTH.value, PROMPT.value, REPEATS.value)
    report = write_json(Path(OUT.value), report)
    style.save(scoring_cost(report), Path(OUT.value).with_suffix(".png"))
    for name, line in report["models"].items():
        count, seconds, tokens = (line[key][-1] for key in ("K", "seconds", "forward_tokens"))
        print(f"{name}: K = {count} takes {seconds['median']} s and {tokens} tokens; powers of K {line['power_of_K']}")
    print(f"one more response costs GPM {report['models']['GPM']['seconds_of_one_more_response']} s")


if __name__ == "__main__":
    app.run(main)
