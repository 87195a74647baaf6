"""Decoding from a cache equals the full forward pass, one token at a time."""

import jax
import jax.numpy as jnp
import numpy as np

from gpmjax.models.cache import DecodeStep, empty_past
from gpmjax.models.transformer import decode_step, prefill, sequence_layout

LENGTHS = np.array([7, 2], np.int32)
RESPONSES, STEPS, SLOTS = 3, 8, 9


def test_cached_decode_equals_full_forward(family, full_logits):
    model, params = family
    rng = np.random.default_rng(0)
    prompts = rng.integers(1, 64, (2, SLOTS)).astype(np.int32)
    responses = rng.integers(1, 64, (2, RESPONSES, STEPS)).astype(np.int32)

    def logits(hidden):
        return model.apply({"params": params}, hidden, method="logits")

    @jax.jit
    def decode(prompts, responses):
        hidden, *prompt = prefill(model, params, prompts, sequence_layout(LENGTHS, SLOTS))
        past = empty_past(*prompt, RESPONSES, STEPS)

        def step(past, at):
            number, tokens = at
            hidden, past = decode_step(model, params, tokens, DecodeStep(jnp.asarray(LENGTHS), number), past)
            return past, logits(hidden)

        _, later = jax.lax.scan(step, past, (jnp.arange(STEPS, dtype=jnp.int32), jnp.moveaxis(responses, 2, 0)))
        return logits(hidden), jnp.moveaxis(later, 0, 2)

    first, later = decode(prompts, responses)
    sequences = [
        np.concatenate([prompts[b, : LENGTHS[b]], responses[b, k]]) for b in range(2) for k in range(RESPONSES)
    ]
    whole = full_logits(model, params, sequences)
    for place, full in enumerate(whole):
        b, k = divmod(place, RESPONSES)
        assert np.abs(full).max() > 1.0
        np.testing.assert_allclose(first[b, : LENGTHS[b]], full[: LENGTHS[b]], atol=1e-5)
        np.testing.assert_allclose(later[b, k], full[LENGTHS[b] :], atol=1e-5)
