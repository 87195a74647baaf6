"""Suite "score": what it costs to score K responses to one prompt, for three models on one backbone.

    GPM      one row, prompt and K responses: an embedding each, all pairs from those
    BT       the same row, a reward each
    PairPM   a model of pairs reads both orders of each pair: K(K − 1) sequences of two responses; prompts are shared here
             too, one a row, which favours it

Random tokens and weights: time does not depend on them. The picture is drawn from the figures, see gpmjax.reports.plots.scoring.
"""

from collections.abc import Callable
from pathlib import Path

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
    "out", "benchmarks/results/speed_score.json", "Where the figures go; the picture beside them."
)
QUICK = flags.DEFINE_bool("quick", False, "Two layers, up to 8 responses.")
LAYERS = flags.DEFINE_integer("layers", 4, "Layers of SmolLM2's shape, which has 30.", 1)
PROMPT = flags.DEFINE_integer("prompt", 128, "Tokens of the prompt.", 1)
LENGTH = flags.DEFINE_integer("length", 16, "Tokens of a response.", 1)
MOST = flags.DEFINE_integer("responses", 64, "K of the largest set.", 2)
REPEATS = flags.DEFINE_integer("repeats", 3, "Turns.", 1)
ROW = 4096
"""Slots that PairPM's sequences fill a row up to."""


def rows_of(prompt: np.ndarray, sequences: list[np.ndarray], slots: int) -> list[TokenBatch]:
    """The sequences after the prompt, as many a row as fit in ``slots``; batches of one row, all of one shape."""
    per_row = min(max((slots - len(prompt)) // len(sequences[0]), 1), len(sequences))
    parts = [sequences[first : first + per_row] for first in range(0, len(sequences), per_row)]
    shape = BatchShape(1, len(prompt) + per_row * len(sequences[0]), per_row, 1)
    return [assemble([[EncodedGroup(prompt, len(prompt) - 1, tuple(part), ())]], shape) for part in parts]


def contenders(layers: int) -> dict[str, Callable]:
    """Name → function of a batch: every score of it, on the host."""
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

        made[name] = lambda batch, apply=jax.jit(apply), params=params: np.asarray(apply(params, batch))
    return made


def power(values: list[float]) -> float | None:
    """p of values ≈ a + b·Kᵖ at K, 2K and 4K, the last three: how increments grow. None where noise hides them."""
    steps = np.diff(values[-3:])
    return round(float(np.log2(steps[1] / steps[0])), 2) if steps.min() > 0 else None


def cost(layers: int, most: int, length: int, prompt_length: int, repeats: int) -> dict:
    draw = np.random.default_rng(0)
    tokens = lambda n: draw.integers(3, jobs.shape(1).vocab_size, n).astype(np.int32)
    prompt, responses = tokens(prompt_length), [tokens(length) for _ in range(most)]
    score, counts = contenders(layers), [2**n for n in range(1, int(np.log2(most)) + 1)]
    figures = {name: {"K": counts, "seconds": [], "forward_tokens": []} for name in score}
    for count in counts:
        some = responses[:count]
        pairs = [np.concatenate([some[i], some[j]]) for i in range(count) for j in range(count) if i != j]
        one = rows_of(prompt, some, len(prompt) + count * length)
        batches = {"GPM": one, "BT": one, "PairPM": rows_of(prompt, pairs, ROW)}
        runs = {name: lambda name=name: [score[name](batch) for batch in batches[name]] for name in score}
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
