"""Suite "sample": tokens per second for K responses to one prompt, against transformers' generate and the memory bound.

Every decoding step reads all weights once, for all K responses. A step therefore takes at least as long as a
matrix–vector product that reads as many bytes, which is measured as well.
"""

import tempfile
from pathlib import Path

import jax
import numpy as np
import torch
import transformers
from absl import app, flags

from benchmarks.speed import jobs, measure
from gpmjax import hub
from gpmjax.files import write_json
from gpmjax.models.config import Runtime
from gpmjax.models.transformer import Decoder, sequence_layout
from gpmjax.sampling.generate import generate
from gpmjax.sampling.logits import SamplingPlan

OUT = flags.DEFINE_string("out", "benchmarks/results/speed_sample.json", "File of the figures.")
QUICK = flags.DEFINE_bool("quick", False, "Use a model of two layers, and draw 8 tokens.")
LAYERS = flags.DEFINE_integer("layers", 30, "Layers of the model; SmolLM2 has 30.", 1)
SAMPLES = flags.DEFINE_integer("samples", 8, "Number of responses.", 1)
PROMPT = flags.DEFINE_integer("prompt", 64, "Tokens of the prompt.", 2)
LENGTH = flags.DEFINE_integer("max_new_tokens", 64, "Tokens of a response. No response stops early.", 2)
REPEATS = flags.DEFINE_integer("repeats", 3, "Turns.", 1)


def torch_model(params, config) -> torch.nn.Module:
    """The same decoder in transformers."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model"
        hub.save_decoder(path, {"decoder": params}, config, hub.open_source("smollm2").tokenizer())
        return transformers.AutoModelForCausalLM.from_pretrained(
            path, dtype=torch.float32, attn_implementation="sdpa"
        ).eval()


def main(_: list[str]) -> None:
    config, length = jobs.shape(2 if QUICK.value else LAYERS.value), 8 if QUICK.value else LENGTH.value
    model = Decoder(config, Runtime())
    layout = sequence_layout(jax.numpy.array([2]), 2)
    params = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 2), np.int32), layout)["params"]
    prompt = np.random.default_rng(0).integers(3, config.vocab_size, PROMPT.value).astype(np.int32)
    plan, theirs = SamplingPlan(length, temperature=0.7, top_p=0.9), torch_model(params, config)
    ids = torch.from_numpy(prompt[None].astype(np.int64))
    draw = dict(do_sample=True, temperature=0.7, top_p=0.9, top_k=0, num_return_sequences=SAMPLES.value)
    draw |= dict(min_new_tokens=length, max_new_tokens=length, pad_token_id=0)

    @torch.no_grad()
    def peer():
        return theirs.generate(ids, attention_mask=torch.ones_like(ids), **draw)

    weights = sum(leaf.size for leaf in jax.tree.leaves(params))
    matrix, vector = torch.ones(weights // 4096, 4096), torch.ones(4096)
    runs = {
        "ours": lambda: generate(model, params, [prompt], samples=SAMPLES.value, plan=plan, seed=0),
        "peer": peer,
        "read_all_weights": lambda: matrix @ vector,
    }
    seconds = measure.in_turns(runs, REPEATS.value)
    drawn = SAMPLES.value * length
    bound = [drawn / (length * once) for once in seconds["read_all_weights"]]
    speeds = {side: [drawn / t for t in seconds[side]] for side in ("ours", "peer")}
    report = {
        "suite": "sample",
        "machine": measure.machine(),
        "layers": config.num_layers,
        "samples": SAMPLES.value,
        "prompt": PROMPT.value,
        "new_tokens": length,
        "tokens_per_second": {side: measure.spread(values) for side, values in speeds.items()},
        "bound_tokens_per_second": measure.spread(bound),
        "gigabytes_per_second": measure.spread([4e-9 * matrix.numel() / t for t in seconds["read_all_weights"]]),
        "speedup": measure.speedup(seconds["ours"], seconds["peer"]),
        "share_of_bound": measure.spread([ours / most for ours, most in zip(speeds["ours"], bound, strict=True)]),
    }
    write_json(Path(OUT.value), report)
    print(f"{report['tokens_per_second']} tokens/s; {report['speedup']} times the peer's speed")
    print(f"{report['share_of_bound']} of the memory's bound, {report['bound_tokens_per_second']} tokens/s")


if __name__ == "__main__":
    app.run(main)
