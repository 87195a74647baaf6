"""Greedy decoding of the real SmolLM2-135M-Instruct equals transformers'."""

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from gpmjax.data.groups import user
from gpmjax.hub import load_decoder, open_source, save_preference_model
from gpmjax.models.spec import PreferenceSpec
from gpmjax.models.transformer import Decoder
from gpmjax.sampling.generate import generate
from gpmjax.sampling.logits import SamplingPlan
from gpmjax.sampling.rollout import prompt_tokens

QUESTIONS = ("What is the capital of France?", "Write one line about the sea.", "Name three primes, smallest first.")
TOKENS = 24


def test_greedy_equals_transformers_token_for_token(tmp_path, chat):
    source = open_source("smollm2")
    decoder = load_decoder(source)
    prompts = prompt_tokens(chat, [user(question) for question in QUESTIONS])
    eos = chat.tokenizer.eos_token_id
    plan = SamplingPlan(TOKENS, temperature=0.0, stop_tokens=(eos,))
    ours = generate(Decoder(source.config), decoder, prompts, samples=1, plan=plan, seed=0, rows=3)

    heads = {"value": {"kernel": np.zeros((source.config.hidden_size, 2), np.float32)}}
    params, spec = {"decoder": decoder, "heads": heads}, PreferenceSpec(dim=2, gate="none")
    save_preference_model(tmp_path / "m", params, source.config, spec, chat.tokenizer)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32).eval()
    for prompt, tokens, length in zip(prompts, ours.tokens[:, 0], ours.lengths[:, 0], strict=True):
        ids = torch.tensor(prompt[None], dtype=torch.long)
        with torch.no_grad():
            theirs = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, do_sample=False, eos_token_id=eos
            )
        assert tokens[:length].tolist() == theirs[0, len(prompt) :].tolist(), chat.tokenizer.decode(tokens)
