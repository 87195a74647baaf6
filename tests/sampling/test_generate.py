"""Whole responses: their distribution, what they may depend on, where they end, and the memory they take."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.sharding import PartitionSpec as P

from gpmjax.models.config import DecoderConfig, Runtime
from gpmjax.models.transformer import Decoder
from gpmjax.sampling import generate as module
from gpmjax.sampling.generate import TokenSamples, bucket, generate
from gpmjax.sampling.logits import SamplingPlan, filtered
from gpmjax.sharding import make_mesh, tree_shardings

PLAN = SamplingPlan(max_new_tokens=10, temperature=0.9, top_k=40, top_p=0.95)
SAMPLES = 3


@pytest.fixture(scope="module")
def drawn(tiny, prompts):
    """Every prompt's responses, in one call."""
    return generate(*tiny, prompts, samples=SAMPLES, plan=PLAN, seed=5, rows=len(prompts))


def assert_same(one: TokenSamples, other: TokenSamples):
    np.testing.assert_array_equal(one.tokens, other.tokens)
    np.testing.assert_allclose(one.logprobs, other.logprobs, atol=2e-5)
    np.testing.assert_array_equal(one.lengths, other.lengths)
    np.testing.assert_array_equal(one.stopped, other.stopped)


def of_prompts(samples: TokenSamples, places) -> TokenSamples:
    return TokenSamples(*(field[places] for field in samples))


def test_logprobs_are_those_of_the_filtered_distribution_in_a_full_forward(tiny, prompts, drawn, full_logits):
    sequences = [
        np.concatenate([prompt, ids]) for prompt, rows in zip(prompts, drawn.tokens, strict=True) for ids in rows
    ]
    whole = np.stack([logits[-PLAN.max_new_tokens - 1 : -1] for logits in full_logits(*tiny, sequences)])
    logprobs = np.asarray(jax.nn.log_softmax(filtered(jnp.asarray(whole), PLAN)))
    tokens = drawn.tokens.reshape(-1, PLAN.max_new_tokens)
    theirs = np.take_along_axis(logprobs, tokens[..., None], axis=-1)[..., 0]
    assert np.isfinite(theirs).all() and theirs.std() > 0.3
    np.testing.assert_allclose(drawn.logprobs.reshape(tokens.shape), theirs, atol=2e-5)


def test_samples_differ_and_are_repeatable(tiny, prompts, drawn):
    assert len({ids.tobytes() for rows in drawn.tokens for ids in rows}) == len(prompts) * SAMPLES
    assert_same(generate(*tiny, prompts, samples=SAMPLES, plan=PLAN, seed=5, rows=len(prompts)), drawn)
    other = generate(*tiny, prompts, samples=SAMPLES, plan=PLAN, seed=6, rows=len(prompts))
    assert (other.tokens != drawn.tokens).any(axis=(1, 2)).all()


def test_a_sample_does_not_depend_on_its_batch(tiny, prompts, drawn):
    order = [4, 2, 0]
    few = generate(*tiny, [prompts[n] for n in order], samples=SAMPLES, plan=PLAN, seed=5, ids=order, rows=2)
    assert_same(few, of_prompts(drawn, order))
    # It does not depend on the number of samples.
    one = generate(*tiny, prompts[:3], samples=1, plan=PLAN, seed=5, rows=3)
    np.testing.assert_array_equal(one.tokens[:, 0], drawn.tokens[:3, 0])
    # It depends on the prompt's id.
    renamed = generate(*tiny, prompts[:3], samples=1, plan=PLAN, seed=5, rows=3, ids=[7, 8, 9])
    assert (renamed.tokens != one.tokens).any(axis=(1, 2)).all()


@pytest.mark.parametrize(
    "sizes", [dict(data=2, fsdp=4), dict(data=2, fsdp=2, tensor=2)], ids=["rows", "rows and heads"]
)
def test_a_sample_does_not_depend_on_the_mesh(tiny, prompts, drawn, sizes):
    model, params = tiny
    mesh = make_mesh(**sizes)
    shardings = tree_shardings(mesh, params)
    assert shardings["layers"]["mlp"]["up"]["kernel"].spec == P(None, "fsdp", "tensor")
    placed = jax.device_put(params, shardings)
    # As in training: rows are pinned to the mesh.
    model = model.clone(runtime=Runtime(mesh=mesh))
    assert_same(generate(model, placed, prompts, samples=SAMPLES, plan=PLAN, seed=5, mesh=mesh, rows=8), drawn)


def test_first_tokens_have_the_frequencies_of_the_full_forward(tiny, prompts, full_logits):
    plan, draws = SamplingPlan(1, temperature=1.2, top_k=12, top_p=0.9), 4000
    tokens = generate(*tiny, prompts[1:2], samples=draws, plan=plan, seed=0).tokens.ravel()
    (logits,) = full_logits(*tiny, prompts[1:2])
    probability = np.asarray(jax.nn.softmax(filtered(jnp.asarray(logits[-1]), plan)), np.float64)
    likely = probability > 0
    seen = np.bincount(tokens, minlength=len(likely))
    assert 4 < likely.sum() <= 12 and not seen[~likely].any()
    assert scipy.stats.chisquare(seen[likely], draws * probability[likely] / probability.sum()).pvalue > 0.01


def test_greedy_decoding_takes_the_full_forwards_argmax(tiny, prompts, full_logits):
    plan = dataclasses.replace(PLAN, temperature=0.0)
    greedy = generate(*tiny, prompts[:3], samples=2, plan=plan, seed=0)
    whole = full_logits(*tiny, [np.concatenate([p, ids[0]]) for p, ids in zip(prompts[:3], greedy.tokens, strict=True)])
    for logits, ids in zip(whole, greedy.tokens, strict=True):
        np.testing.assert_array_equal(logits[-plan.max_new_tokens - 1 : -1].argmax(-1), ids[0])
        np.testing.assert_array_equal(ids[0], ids[1])
    np.testing.assert_array_equal(greedy.logprobs, 0.0)


def test_responses_end_with_the_first_stop_token(tiny, prompts, drawn):
    stops = tuple(int(token) for token in np.unique(drawn.tokens[:, :, 3:6])[:6])
    plan = dataclasses.replace(PLAN, stop_tokens=stops)
    cut = generate(*tiny, prompts, samples=SAMPLES, plan=plan, seed=5, rows=len(prompts))
    assert cut.stopped.any() and not cut.stopped.all()
    for n, k in np.ndindex(cut.lengths.shape):
        free, ids, length = drawn.tokens[n, k], cut.tokens[n, k], cut.lengths[n, k]
        ends = np.flatnonzero(np.isin(free, stops))
        assert cut.stopped[n, k] == bool(len(ends))
        assert length == (ends[0] + 1 if len(ends) else len(free))
        np.testing.assert_array_equal(ids[:length], free[:length])
        assert not ids[length:].any() and not cut.logprobs[n, k, length:].any()


@pytest.fixture
def calls(monkeypatch):
    """Two lists that grow whenever ``draw`` is traced, and whenever it runs."""
    traced, ran = [], []

    def counted(keys, logits, plan):
        traced.append(1)
        jax.debug.callback(lambda: ran.append(1))
        return draw(keys, logits, plan)

    draw = module.draw
    monkeypatch.setattr(module, "draw", counted)
    # A separate jit: the module's own may hold programs of earlier tests.
    monkeypatch.setattr(module, "_generate", jax.jit(
        lambda params, batch, seed, **static: module._draw_batch(params, batch, seed, **static),
        static_argnames=("model", "count", "plan", "mesh"),
    ))  # fmt: skip
    return traced, ran


def test_the_loop_ends_when_every_response_has_ended(tiny, prompts, calls):
    _, ran = calls
    plan = dataclasses.replace(PLAN, stop_tokens=tuple(range(64)))
    samples = generate(*tiny, prompts[:3], samples=2, plan=plan, seed=0, rows=4)
    jax.effects_barrier()
    assert samples.lengths.tolist() == [[1, 1]] * 3 and samples.stopped.all()
    assert len(ran) == 1


def test_prompts_of_a_bucket_share_one_program(tiny, calls):
    traced, _ = calls
    model, params = tiny
    rng = np.random.default_rng(0)
    once = None
    for lengths in ((5, 9), (1, 31), (32, 2)):
        prompts = [rng.integers(1, 64, length).astype(np.int32) for length in lengths]
        generate(model, params, prompts, samples=2, plan=SamplingPlan(4), seed=lengths[0], rows=2)
        once = once or len(traced)
        assert len(traced) == once
    generate(model, params, [np.ones(33, np.int32)] * 2, samples=2, plan=SamplingPlan(4), seed=0, rows=2)
    assert len(traced) == 2 * once


def test_buckets_waste_at_most_half():
    slots = [bucket(length) for length in range(1, 3000)]
    assert all(length <= size for length, size in enumerate(slots, 1))
    assert all(size < 1.5 * length for length, size in enumerate(slots, 1) if length > 32)
    assert len(set(slots)) == 14


def test_memory_grows_by_one_response_cache_per_response(with_params):
    layers, head = 16, 64
    config = DecoderConfig(
        32, hidden_size=8, num_layers=layers, num_heads=1, head_dim=head, mlp_size=8, max_positions=4096
    )
    _, params = with_params(config)
    model = Decoder(config, Runtime(attention="chunked"))
    prompt_cache, response_cache = (2 * layers * head * 4 * slots for slots in (2048, 256))  # keys and values in bytes

    def temporaries(responses):
        batch = module._batch([np.ones(2000, np.int32)], [0], 1, 2048)
        static = dict(model=model, count=responses, plan=SamplingPlan(257), mesh=None)
        compiled = module._generate.lower(params, batch, np.uint32(0), **static).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    # One cache, written in place, and a layer's temporaries: no second cache, and no copy of the prompt's.
    assert response_cache <= (temporaries(9) - temporaries(1)) / 8 < 1.3 * response_cache < prompt_cache


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(prompts=[]), r"prompts=\[\]: there must be at least one"),
        (dict(prompts=[np.array([3]), np.array([], np.int32)]), "prompt 1 is empty"),
        (
            dict(prompts=[np.ones(119, np.int32)]),
            "prompt 0 has 119 tokens: with max_new_tokens=10 it must fit the model's 128",
        ),
        (dict(prompts=[np.array([64])]), r"prompt 0 has token ids outside the model's vocabulary, \[0, 64\)"),
        (dict(samples=0), "samples=0: must be at least 1"),
        (dict(rows=0), "rows=0: must be at least 1"),
        (dict(ids=[1, 2]), "ids=.* must be 1 numbers"),
        (dict(seed=-1), "seed=-1: must be in"),
        (dict(ids=[-1]), "ids=.* must be 1 numbers"),
        (dict(plan=dataclasses.replace(PLAN, stop_tokens=(64,))), r"stop_tokens=\(64,\): must be below"),
        (dict(plan=dataclasses.replace(PLAN, top_p=2.0)), "top_p=2.0"),
    ],
)
def test_bad_arguments_are_refused(tiny, change, message):
    asked = dict(prompts=[np.array([1, 2], np.int32)], samples=2, plan=PLAN, seed=0) | change
    with pytest.raises(ValueError, match=message):
        generate(*tiny, asked.pop("prompts"), **asked)


def test_a_model_without_output_table_is_refused(with_params):
    model, params = with_params(DecoderConfig(vocab_size=32, hidden_size=8, num_layers=1, num_heads=2, mlp_size=8))
    params = {name: part for name, part in params.items() if name != "lm_head"}
    with pytest.raises(ValueError, match="lm_head"):
        generate(model, params, [np.array([1])], samples=1, plan=PLAN, seed=0)
