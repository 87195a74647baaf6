"""Tiny models and hand-made batches that the model tests share."""

import jax
import numpy as np
import pytest

from gpmjax.arrays import Comparisons, TokenBatch, TokenLayout
from gpmjax.models.config import DecoderConfig, RopeScaling

# Every feature of every family at once, since all families share one decoder.
EVERYTHING = DecoderConfig(
    vocab_size=251,
    hidden_size=16,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    head_dim=6,
    mlp_size=24,
    activation="gelu_tanh",
    norm_offset=1.0,
    rope_theta=2e3,
    rope_scaling=RopeScaling("llama3", factor=4.0, original_max_positions=16),
    layer_types=("sliding", "full", "sliding"),
    window=5,
    local_rope_theta=300.0,
    qkv_bias=True,
    o_bias=True,
    mlp_bias=True,
    qk_norm=True,
    post_norms=True,
    attention_softcap=3.0,
    final_softcap=4.0,
    embed_scale=4.0,
)
PLAIN = DecoderConfig(vocab_size=251, hidden_size=16, num_layers=2, num_heads=4, num_kv_heads=2, mlp_size=24)


@pytest.fixture(scope="session")
def everything():
    return EVERYTHING


@pytest.fixture(scope="session")
def plain():
    return PLAIN


def _token_batch(rows, slots=0, responses=0):
    """The arrays that a model takes, from rows of groups. A group is (prompt ids, [response ids, ...]).

    Every response of a group is compared with the next one of that group.
    """
    slots = max(slots, *(sum(len(p) + sum(map(len, rs)) for p, rs in row) for row in rows))
    responses = max(responses, *(sum(len(rs) for _, rs in row) for row in rows))

    def full(width, value=0):
        return np.full((len(rows), width), value, np.int32)

    tokens, positions, group, response, previous = (full(slots) for _ in range(5))
    ends, prompts, live = full(responses), full(responses), np.zeros((len(rows), responses), bool)
    pairs = full(responses), full(responses)
    weight = np.zeros((len(rows), responses), np.float32)
    for b, row in enumerate(rows):
        at = count = 0
        for g, (prompt, answers) in enumerate(row):
            start = at
            for r, text in enumerate([prompt, *answers]):
                stop = at + len(text)
                offset = len(prompt) if r else 0
                tokens[b, at:stop] = text
                positions[b, at:stop] = np.arange(len(text)) + offset
                group[b, at:stop] = g + 1
                previous[b, at:stop] = np.arange(at, stop) - 1
                previous[b, at] = start + len(prompt) - 1 if r else start
                if r:
                    response[b, at:stop] = count + 1
                    ends[b, count], prompts[b, count], live[b, count] = stop - 1, start + len(prompt) - 1, True
                    if r < len(answers):
                        pairs[0][b, count], pairs[1][b, count], weight[b, count] = count, count + 1, 1
                    count += 1
                at = stop
    ones = np.ones_like(weight)
    return TokenBatch(
        tokens=tokens,
        layout=TokenLayout(positions, group, response),
        response_end=ends,
        prompt_end=prompts,
        response_mask=live,
        previous=previous,
        lm_weight=(response > 0).astype(np.float32),
        comparisons=Comparisons(*pairs, target=ones, margin=0 * ones, weight=weight, number=full(responses, -1)),
    )


@pytest.fixture(scope="session")
def token_batch():
    return _token_batch


@pytest.fixture(scope="session")
def groups():
    """Three groups. All token ids differ, so that the gradient of an embedding row is that of one slot."""
    ids = iter(np.random.default_rng(0).permutation(np.arange(1, 250)).tolist())

    def take(n):
        return [next(ids) for _ in range(n)]

    return [(take(p), [take(n) for n in answers]) for p, answers in [(4, (9, 7, 8)), (11, (3, 6)), (1, (5, 2, 4))]]


def _random_params(model, batch, seed=0):
    """Random parameters, also where ``init`` gives 0 or 1. They are numpy's: ``init`` compiles for seconds."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        noise = rng.standard_normal(leaf.shape)
        if leaf.ndim >= 2 and path[-1].key in ("kernel", "embedding", "lora_a", "lora_b"):
            noise *= leaf.shape[-2] ** -0.5
        else:
            noise = float(path[-1].key == "scale") + 0.3 * noise
        return jax.numpy.asarray(noise, leaf.dtype)

    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)["params"]
    return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.fixture(scope="session")
def random_params():
    return _random_params
