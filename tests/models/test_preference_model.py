"""Laws of a preference model: a score depends only on its prompt and its two responses."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from gpmjax.arrays import FeatureBatch
from gpmjax.models.attention import blockwise, grouped_query
from gpmjax.models.config import LoRA, Runtime
from gpmjax.models.layers import Linear
from gpmjax.models.preference_model import PreferenceModel, predictors
from gpmjax.models.scores import group_scores, pair_scores
from gpmjax.models.spec import PreferenceSpec
from gpmjax.models.transformer import unembedding

SPEC = PreferenceSpec(dim=4, gate="scaled_softmax")
BT = PreferenceSpec.bradley_terry()


@pytest.fixture(scope="module")
def config(everything):
    return everything


@pytest.fixture(scope="module")
def params(config, groups, token_batch, random_params):
    return random_params(PreferenceModel(config, SPEC), token_batch([groups]))


@functools.cache
def compiled(model):
    return jax.jit(lambda params, batch: model.apply({"params": params}, batch))


def apply(model, params, batch):
    return compiled(model)(params, batch)


def by_response(batch, values):
    """The rows of ``values`` of responses that are not padding, in the order of the data."""
    return np.asarray(values)[np.asarray(batch.response_mask)]


def layouts(groups, token_batch):
    """The same responses in the same order: packed into one row, one row per group, and one row per response.

    Empty rows pad all of them to one shape, so that they share one compiled program.
    """
    answers = [(prompt, [answer]) for prompt, answers in groups for answer in answers]
    packed = token_batch([groups])
    slots, responses = packed.tokens.shape[1], packed.response_end.shape[1]
    for rows in ([groups], [[group] for group in groups], [[answer] for answer in answers]):
        yield token_batch(rows + [[]] * (len(answers) - len(rows)), slots, responses)


@pytest.mark.parametrize("attention", ["xla", "blockwise"])
def test_packed_rows_give_the_results_of_separate_rows(attention, config, params, groups, token_batch, monkeypatch):
    monkeypatch.setattr(blockwise, "BLOCK", 8)  # so that siblings and other groups lie in other blocks
    model = PreferenceModel(config, SPEC, Runtime(attention=attention))

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(p, batch):
        out = model.apply({"params": p}, batch)
        mask = jnp.asarray(batch.response_mask)[..., None]
        return jnp.sum(jnp.where(mask, jnp.sin(3 * out.embedding), 0)) + jnp.sum(jnp.where(mask, out.scale**2, 0)), out

    results = []
    for batch in layouts(groups, token_batch):
        (_, out), grads = loss(params, batch)
        results.append((by_response(batch, out.embedding), by_response(batch, out.scale), grads))
    for embedding, scale, grads in results[1:]:
        np.testing.assert_allclose(embedding, results[0][0], atol=1e-5)
        np.testing.assert_allclose(scale, results[0][1], atol=1e-5)
        for got, want in zip(jax.tree.leaves(grads), jax.tree.leaves(results[0][2]), strict=True):
            np.testing.assert_allclose(got, want, atol=2e-5 * max(1.0, float(np.abs(want).max())))


def test_scores_do_not_depend_on_padding_row_order_or_batch_size(config, params, groups, token_batch):
    model = PreferenceModel(config, SPEC)
    rows = [[group] for group in groups]
    plain = token_batch(rows)
    padded = token_batch(rows[::-1], slots=plain.tokens.shape[1] + 13, responses=5)
    want = group_scores(apply(model, params, plain))
    got = group_scores(apply(model, params, padded))
    np.testing.assert_allclose(got[::-1, :3, :3], want, atol=1e-5)
    alone = group_scores(apply(model, params, token_batch(rows[1:2])))
    np.testing.assert_allclose(alone[0], want[1, :2, :2], atol=1e-5)
    assert np.isfinite(np.asarray(got)).all()


def test_a_response_sees_its_prompt_and_itself(config, params, groups, token_batch):
    batch = token_batch([groups])
    model = PreferenceModel(config, SPEC)
    # Token ids are all different, so each row of the embedding table belongs to one slot.
    moved = jax.jit(
        jax.jacrev(
            lambda table: jnp.sin(
                model.apply(
                    {"params": params | {"decoder": params["decoder"] | {"embed": {"embedding": table}}}}, batch
                ).embedding[0]
            ).sum(-1)
        )
    )(params["decoder"]["embed"]["embedding"])
    influence = np.abs(np.asarray(moved)).sum(-1)[:, batch.tokens[0]] > 0
    layout = batch.layout
    for r in range(batch.response_end.shape[1]):
        own = layout.group[0] == layout.group[0, batch.response_end[0, r]]
        visible = own & ((layout.response[0] == 0) | (layout.response[0] == r + 1))
        np.testing.assert_array_equal(influence[r], visible)


def test_gate_reads_the_prompt_alone(config, params, groups, token_batch):
    other = [(prompt, [[t % 250 + 1 for t in answer] for answer in answers]) for prompt, answers in groups]
    model = PreferenceModel(config, SPEC)
    first, second = (apply(model, params, token_batch([g])) for g in (groups, other))
    np.testing.assert_array_equal(first.scale, second.scale)
    assert np.abs(first.embedding - second.embedding).max() > 1e-2
    assert np.abs(first.scale[0, 0] - first.scale[0, 3]).max() > 1e-3


def score_and_gradient(config, runtime, params, batch):
    model = PreferenceModel(config, SPEC, runtime)

    def total(p):
        return jnp.sum(jnp.sin(pair_scores(model.apply({"params": p}, batch), batch.comparisons)))

    return jax.jit(jax.value_and_grad(total))(params)


@pytest.fixture(scope="module")
def reference(config, params, groups, token_batch):
    return score_and_gradient(config, Runtime(), params, token_batch([groups, groups[:1]]))


@pytest.mark.parametrize(
    "runtime",
    [
        Runtime(unroll="unrolled", attention="chunked"),
        Runtime(remat="full", unroll="unrolled"),
        Runtime(remat="dots", attention="chunked"),
        Runtime(remat="full", attention="flash"),
        Runtime(attention="blockwise"),
        Runtime(remat="dots", attention="blockwise"),
        Runtime(remat="full", attention="blockwise"),
    ],
    ids=lambda r: f"{r.remat}-{r.unroll}-{r.attention}",
)
def test_runtime_does_not_change_the_function(runtime, reference, config, params, groups, token_batch, monkeypatch):
    monkeypatch.setattr(grouped_query, "CHUNK", 25)
    got = score_and_gradient(config, runtime, params, token_batch([groups, groups[:1]]))

    def close(a, b):
        return np.testing.assert_allclose(a, b, atol=1e-5 * max(1.0, float(np.abs(b).max())))

    jax.tree.map(close, got, reference)


def test_lora_starts_as_the_base_model_and_merges_into_it(plain, groups, token_batch, random_params):
    batch = token_batch([groups])
    lora = LoRA(rank=2, alpha=6.0, targets=("q", "v", "down"))
    adapted, base = PreferenceModel(plain, SPEC, Runtime(lora=lora)), PreferenceModel(plain, SPEC)
    random = flatten_dict(random_params(adapted, batch), sep="/")
    assert {path.split("/")[-2] for path in random if path.endswith("lora_a")} == set(lora.targets)

    def embedding(model, flat):
        return apply(model, unflatten_dict(flat, sep="/"), batch).embedding

    zero_b = {path: 0 * x if path.endswith("lora_b") else x for path, x in random.items()}
    np.testing.assert_array_equal(embedding(adapted, zero_b), embedding(base, random))

    merged = dict(random)
    for path in [path for path in random if path.endswith("lora_a")]:
        module = path.removesuffix("lora_a")
        product = jnp.einsum("lir,lro->lio", random[path], random[module + "lora_b"])
        merged[module + "kernel"] = random[module + "kernel"] + lora.alpha / lora.rank * product
    np.testing.assert_allclose(embedding(adapted, random), embedding(base, merged), atol=1e-5)
    assert np.abs(embedding(adapted, random) - embedding(base, random)).max() > 1e-2


def test_new_lora_factors_have_no_effect():
    module = Linear(5, True, Runtime(lora=LoRA(2, 1.0, ("q",))), name="q")
    params = module.init(jax.random.key(0), jnp.ones((1, 3)))["params"]
    assert not params["lora_b"].any() and params["lora_a"].any()


def test_bfloat16_compute_keeps_float32_scores(config, params, groups, token_batch):
    batch = token_batch([groups])
    out = apply(PreferenceModel(config, SPEC, Runtime(dtype="bfloat16")), params, batch)
    exact = apply(PreferenceModel(config, SPEC), params, batch)
    assert {x.dtype for x in jax.tree.leaves(out)} == {jnp.dtype("float32")}
    assert pair_scores(out, batch.comparisons).dtype == jnp.float32
    assert 0 < np.abs(out.embedding - exact.embedding).max() < 0.2


@pytest.mark.parametrize("spec", [SPEC, BT], ids=["gpm", "bt"])
def test_features_give_the_scores_of_tokens(spec, plain, groups, token_batch, random_params):
    batch = token_batch([groups, groups[1:]])
    model = PreferenceModel(plain, spec)
    params = random_params(model, batch)
    response, prompt = jax.jit(lambda p: model.apply({"params": p}, batch, method="features"))(params)
    cached = FeatureBatch(response, prompt, batch.response_mask, batch.comparisons)
    direct, indirect = apply(model, params, batch), apply(model, {"heads": params["heads"]}, cached)
    scores = pair_scores(direct, batch.comparisons)
    np.testing.assert_allclose(pair_scores(indirect, batch.comparisons), scores, atol=1e-6)
    assert set(jax.eval_shape(model.init, jax.random.key(0), cached)["params"]) == {"heads"}

    square = np.asarray(group_scores(direct))
    rows, live = np.indices(scores.shape)[0], batch.comparisons.weight > 0
    chosen = square[rows, batch.comparisons.chosen, batch.comparisons.rejected]
    np.testing.assert_allclose(chosen[live], np.asarray(scores)[live], atol=1e-6)


def test_a_first_response_token_is_predicted_from_its_prompt(config, params, groups, token_batch):
    model = PreferenceModel(config, SPEC)

    @jax.jit
    def logprobs(batch):
        hidden = predictors(model.apply({"params": params}, batch, method="encode"), batch)
        logits = model.apply({"params": params}, hidden, method="logits")
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.asarray(batch.tokens)[..., None], axis=-1)
        return picked[..., 0]

    flat = [np.asarray(logprobs(batch))[batch.lm_weight > 0] for batch in layouts(groups, token_batch)]
    for other in flat[1:]:
        np.testing.assert_allclose(other, flat[0], atol=2e-5)


def test_logits_use_the_table_that_unembedding_returns(config, groups, token_batch, random_params):
    for tied in (False, True):
        model = PreferenceModel(dataclasses.replace(config, tie_embeddings=tied, final_softcap=None), SPEC)
        params = random_params(model, token_batch([groups]))
        assert ("lm_head" in params["decoder"]) != tied
        hidden = jax.random.normal(jax.random.key(1), (3, config.hidden_size))
        want = hidden @ unembedding(params["decoder"]).T
        np.testing.assert_allclose(model.apply({"params": params}, hidden, method="logits"), want, atol=1e-5)
