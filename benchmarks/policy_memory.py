"""Peak memory and time of reading back a policy iteration whose stages are finished, up to its first batches.

    python benchmarks/policy_memory.py --directory=DIRECTORY [--prompts=20000 --responses=5 --tokens=500]

The stages are synthetic parquet files, made in the directory by a process of its own if they are not there. What is
timed is everything that an iteration does with them before and after its update: samples, scores and two policies'
log-probabilities from files, signals, training examples, twenty batches, figures. Prints one JSON object; memory is
the process's max RSS, JAX included.
"""

import json
import multiprocessing
import resource
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl import app, flags

from gpmjax.config.improve import PolicyLossConfig
from gpmjax.data.groups import user
from gpmjax.data.prompts import EncodedPrompt, Prompt
from gpmjax.improve import stages, tables
from gpmjax.improve.data import Batches, scored_samples, training_examples
from gpmjax.improve.figures import iteration_figures
from gpmjax.improve.signals import signals

DIRECTORY = flags.DEFINE_string("directory", None, "Where the stages are, or are made.", required=True)
PROMPTS = flags.DEFINE_integer("prompts", 20_000, "Prompts of the iteration.")
RESPONSES = flags.DEFINE_integer("responses", 5, "Responses to each prompt.")
TOKENS = flags.DEFINE_integer(
    "tokens", 500, "Mean tokens of a response; lengths are uniform from half to one and a half of it."
)

PROMPTS_A_FILE, VOCABULARY, PROMPT_TOKENS, BATCHES = 256, 49_152, 60, 20


def nested(values: np.ndarray, lengths: np.ndarray, kind: pa.DataType) -> pa.Array:
    """[N, K] lists of the given lengths, cut from flat values."""
    inner = pa.ListArray.from_arrays(np.append(0, np.cumsum(lengths.ravel())).astype(np.int32), pa.array(values, kind))
    return pa.ListArray.from_arrays(np.arange(0, lengths.size + 1, lengths.shape[1], dtype=np.int32), inner)


def equal(values: np.ndarray) -> pa.Array:
    """An array [N, …] as nested lists of float32."""
    array = pa.array(values.ravel(), pa.float32())
    for axis in reversed(range(1, values.ndim)):
        array = pa.ListArray.from_arrays(np.arange(0, len(array) + 1, values.shape[axis], dtype=np.int32), array)
    return array


def make(directory: Path, prompts: int, responses: int, tokens: int) -> None:
    """Writes the four stages."""
    rng = np.random.default_rng(0)
    for number, start in enumerate(range(0, prompts, PROMPTS_A_FILE)):
        ids = np.arange(start, min(start + PROMPTS_A_FILE, prompts), dtype=np.int32)
        lengths = rng.integers(tokens // 2, tokens + tokens // 2 + 1, (len(ids), responses))
        text = ["".join(map(chr, row)) for row in rng.integers(97, 123, (64, 4 * tokens))]
        scores = rng.normal(size=(len(ids), responses, responses)).astype(np.float32)
        few = rng.normal(size=(len(ids), responses))
        nothing = pa.nulls(len(ids))
        columns = {
            "samples": {
                "prompt_id": ids,
                "where": [f"prompts.jsonl:{n}" for n in ids],
                "prompt": [[{"role": "user", "content": f"question {n}"}] for n in ids],
                "prompt_tokens": list(rng.integers(2, VOCABULARY, (len(ids), PROMPT_TOKENS), dtype=np.int32)),
                "responses": [[f"{n} {text[(n * responses + k) % 64]}" for k in range(responses)] for n in ids],
                "response_tokens": nested(rng.integers(2, VOCABULARY, lengths.sum()), lengths, pa.int32()),
                "logprobs": nested(-rng.random(lengths.sum()), lengths, pa.float32()),
                "stopped": [[True] * responses] * len(ids),
            },
            "scores": {
                "prompt_id": ids,
                "scores": equal(scores - scores.swapaxes(1, 2)),
                "tau": np.full(len(ids), 0.1),
                "embedding": nothing,
                "scale": nothing,
                "mean_score": equal(few),
                "win_rate": equal(few),
                "cyclic_share": few[:, 0],
            },
        }
        for name in ("current", "base"):
            columns[name] = {"prompt_id": ids, "logprobs": nested(-rng.random(lengths.sum()), lengths, pa.float32())}
        schemas = {"samples": tables.SAMPLES, "scores": tables.SCORES}
        for name, found in columns.items():
            schema = schemas.get(name, tables.LOGPROBS)
            arrays = [
                pa.array(found[field.name], field.type)
                if not isinstance(found[field.name], pa.Array)
                else found[field.name].cast(field.type)
                for field in schema
            ]
            (directory / name).mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_arrays(arrays, schema=schema), directory / name / f"{number:05}.parquet")


def main(_: list[str]) -> None:
    directory, count = Path(DIRECTORY.value), PROMPTS.value
    if not directory.exists():
        given = directory, count, RESPONSES.value, TOKENS.value
        maker = multiprocessing.get_context("spawn").Process(target=make, args=given)
        maker.start()
        maker.join()
    empty = np.zeros(1, np.int32)
    prompts = [EncodedPrompt(n, Prompt(user("Q"), f"prompts.jsonl:{n}"), empty) for n in range(count)]
    started = time.monotonic()
    common = dict(prompts_a_file=PROMPTS_A_FILE, facts={}, between=lambda: None)
    sampled = stages.samples(directory / "samples", prompts, lambda: None, seed=0, **common)
    scores = stages.scores(directory / "scores", sampled, lambda: None, **common)
    current, base = (
        stages.logprobs(directory / name, sampled, None, None, batch=8, **common) for name in ("current", "base")
    )
    scored = scored_samples(scores, current, base)
    found = signals(scored, PolicyLossConfig())
    examples = training_examples(sampled, current, base, found)
    batches = Batches(examples, 8, seed=0)
    for step in range(BATCHES):
        batches(step)
    figures = iteration_figures(1, sampled, scores, scored, found, None)
    print(
        json.dumps(
            {
                "prompts": count,
                "responses": figures["responses"],
                "tokens": round(figures["length"]["mean"] * figures["responses"]),
                "seconds": round(time.monotonic() - started, 1),
                "max_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
                "check": figures["kl_base_k1"],
            }
        )
    )


if __name__ == "__main__":
    app.run(main)
