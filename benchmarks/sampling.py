"""Speed of sampling: tokens per second of SmolLM2-135M-Instruct for K responses to one prompt.

    python benchmarks/sampling.py --samples=1,4,8 --max_new_tokens=64

Each figure is the best of ``--repeats`` runs. It includes the prefill and excludes compilation. No response stops
early, so all runs draw the same number of tokens.
"""

import functools
import time

import numpy as np
from absl import app, flags

from gpmjax import hub
from gpmjax.data.chat import ChatFormat
from gpmjax.data.groups import user
from gpmjax.models.config import DTYPES, Runtime
from gpmjax.models.transformer import Decoder
from gpmjax.sampling.generate import generate
from gpmjax.sampling.logits import SamplingPlan
from gpmjax.sampling.rollout import prompt_tokens

MODEL = flags.DEFINE_string("model", "smollm2", "Any model with a decoder.")
SAMPLES = flags.DEFINE_list("samples", ["1", "4", "8"], "Numbers of responses.")
LENGTH = flags.DEFINE_integer("max_new_tokens", 64, "Tokens of a response.", 1)
REPEATS = flags.DEFINE_integer("repeats", 3, "Runs per number of responses.", 1)
DTYPE = flags.DEFINE_enum("dtype", "float32", DTYPES, "Type that the model computes in.")


def main(_: list[str]) -> None:
    source = hub.open_source(MODEL.value)
    model, params = Decoder(source.config, Runtime(dtype=DTYPE.value)), hub.load_decoder(source, saved_heads="drop")
    prompt: list[np.ndarray] = prompt_tokens(
        ChatFormat(source.tokenizer()), [user("Write a story about a fox and a crow.")]
    )
    plan = SamplingPlan(LENGTH.value, temperature=0.7, top_p=0.9)
    print(f"prompt of {len(prompt[0])} tokens, {LENGTH.value} new ones a response")
    for samples in map(int, SAMPLES.value):
        draw = functools.partial(generate, model, params, prompt, samples=samples, plan=plan)
        draw(seed=0)
        seconds = []
        for seed in range(REPEATS.value):
            start = time.perf_counter()
            draw(seed=seed)
            seconds.append(time.perf_counter() - start)
        best = min(seconds)
        print(
            f"K = {samples}: {samples * LENGTH.value / best:.1f} tokens/s, {1000 * best / LENGTH.value:.0f} ms a step"
        )


if __name__ == "__main__":
    app.run(main)
