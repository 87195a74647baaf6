"""The policy's loss is that of the formulas, over exactly the tokens that were sampled, however rows are laid out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gpmjax.config import load_config
from gpmjax.config.improve import METHODS, PAIRWISE, ImproveConfig, PolicyLossConfig
from gpmjax.improve.batch import PolicyShape, assemble_policy, fit_policy_shape
from gpmjax.improve.signals import Scored, block_drift, response_facts, signals
from gpmjax.improve.step import (
    make_policy_step,
    policy_batch_loss,
    policy_batch_totals,
    response_logprobs,
    response_losses,
)
from gpmjax.models.config import DecoderConfig
from gpmjax.models.presets import PRESETS
from gpmjax.models.transformer import Decoder, sequence_layout
from gpmjax.train.optimizer import frozen_patterns, make_optimizer, split_params
from gpmjax.train.state import TrainState

MODEL = Decoder(DecoderConfig(vocab_size=256, hidden_size=16, num_layers=1, num_heads=2, mlp_size=16))
CONFIGS = ("gpo_smollm2", "gpo_llama3_8b", "sppo_llama3_8b", "dpo_llama3_8b", "comal_smollm2", "comal_llama3_8b")


@pytest.fixture(scope="module")
def params():
    layout = sequence_layout(jnp.array([2]), 2)
    return {"decoder": jax.jit(MODEL.init)(jax.random.key(0), jnp.zeros((1, 2), jnp.int32), layout)["params"]}


@pytest.fixture
def batch(example):
    examples = [example(0), example(1), example(2)]
    return assemble_policy(examples, fit_policy_shape(examples, 4))


def test_logprobs_are_those_of_each_sequence_alone(params, example, batch):
    found = np.asarray(jax.jit(lambda p, b: response_logprobs(MODEL, p, b))(params, batch))
    sequences = [
        (n, r, e.prompt, tokens) for n, e in enumerate(map(example, range(3))) for r, tokens in enumerate(e.responses)
    ]
    slots = max(len(prompt) + len(tokens) for *_, prompt, tokens in sequences)
    rows = np.array([np.pad(np.concatenate([p, t]), (0, slots - len(p) - len(t))) for *_, p, t in sequences])
    lengths = jnp.array([len(p) + len(t) for *_, p, t in sequences])
    hidden = MODEL.apply({"params": params["decoder"]}, rows, sequence_layout(lengths, slots))
    logits = MODEL.apply({"params": params["decoder"]}, hidden, method="logits")
    alone = np.asarray(jax.nn.log_softmax(logits))
    for row, (n, r, prompt, tokens) in enumerate(sequences):
        places = np.arange(len(tokens)) + len(prompt) - 1
        np.testing.assert_allclose(found[n, r, : len(tokens)], alone[row, places, tokens], atol=1e-5)
        assert not found[n, r, len(tokens) :].any()
    assert not found[3].any()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_its_formula_and_padding_weighs_nothing(batch, method):
    config = PolicyLossConfig(method=method, estimator="all", beta=0.5, kl=0.1)
    tokens = jnp.where(batch.mask, batch.current + 0.1, 0.0)
    losses, weight = response_losses(tokens, batch, config)
    assert losses.shape == weight.shape == ((4, 3, 3) if method in PAIRWISE else (4, 3))
    assert np.isfinite(losses).all() and not weight[3].any()
    ratio = 0.1 * batch.mask.sum(axis=-1)
    residual = ratio - batch.signal / 0.5
    expected = {
        "gpo": (residual - residual[:, :3].mean(axis=1, keepdims=True)) ** 2,
        "ipo": (ratio[:, :, None] - ratio[:, None, :] - 1.0) ** 2,
        "grpo": -np.minimum(np.exp(0.1), 1.2) * batch.signal + 0.1 * (np.expm1(-0.1) + 0.1),
    }
    if method in expected:
        live = weight > 0
        np.testing.assert_allclose(losses[live], expected[method][live], rtol=1e-4, atol=1e-5)


def test_micro_batches_and_empty_rows_change_nothing(params, example):
    examples = [example(n) for n in range(4)]
    config = PolicyLossConfig(method="gpo", estimator="all", beta=0.5)
    optimizer = optax.sgd(0.1)
    results = []
    for rows, accumulate in ((4, 1), (4, 2), (8, 1)):
        shape = fit_policy_shape(examples, rows)
        state = TrainState(jnp.int32(0), params, optimizer.init(params))
        step = jax.jit(make_policy_step(MODEL, optimizer, config, accumulate=accumulate))
        results.append(step(state, {}, assemble_policy(examples, shape)))
    (whole, metrics), *others = results
    for after, found in others:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), whole.params, after.params)
        for name in ("loss", "kl_k1", "kl_base_k1", "nll_per_token", "tokens"):
            np.testing.assert_allclose(metrics[name], found[name], rtol=1e-4, err_msg=name)


def test_a_response_that_weighs_nothing_may_be_left_out(params, example):
    whole = example(1)._replace(response_weight=np.array([1, 0, 1], np.float32))
    config = PolicyLossConfig(method="gpo", beta=0.5)

    def loss(kept):
        batch = assemble_policy([kept], PolicyShape(1, 64, 3, 16))
        return policy_batch_loss(MODEL, params, batch, policy_batch_totals(batch, config), config, 1.0)[0]

    np.testing.assert_allclose(loss(whole), loss(whole.keep(np.array([0, 2]))), rtol=1e-5)


def scored(n=4, k=5, dim=4):
    draw = np.random.default_rng(0)
    embedding = draw.normal(size=(n, k, dim)).astype(np.float32)
    rotated = np.stack([-embedding[..., 1::2], embedding[..., ::2]], axis=-1).reshape(embedding.shape)
    scores = np.einsum("nid,njd->nij", rotated, embedding).astype(np.float32)
    logprobs = -draw.random((2, n, k)).astype(np.float32)
    return Scored(scores, 0.1, *logprobs, embedding, None)


def test_signals_take_the_scale_that_the_config_names():
    found = scored()
    log_odds = signals(found, PolicyLossConfig(score="log_odds", estimator="all")).signal
    score = signals(found, PolicyLossConfig(score="score", estimator="all")).signal
    np.testing.assert_allclose(score, found.scores.mean(axis=-1), rtol=1e-5)
    np.testing.assert_allclose(log_odds, score / 0.1, rtol=1e-5)
    rates = signals(found, PolicyLossConfig(method="sppo", score="score", estimator="all"))
    np.testing.assert_allclose(rates.signal, (1 / (1 + np.exp(-found.scores / 0.1))).mean(axis=-1), rtol=1e-5)
    assert (rates.log_partition == 0.5).all()
    assert next(fact["win_rate"] for fact in response_facts(found.scores, 0.1)) == pytest.approx(
        rates.signal[0].tolist()
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("estimator", ["all", "best_and_worst", "both"])
def test_estimators_weigh_responses_or_pairs(method, estimator):
    found = signals(scored(), PolicyLossConfig(method=method, estimator=estimator))
    pairs, ones = found.pair_weight.sum(axis=(1, 2)), found.response_weight.sum(axis=1)
    assert (pairs if method in PAIRWISE else ones).all() and not (ones if method in PAIRWISE else pairs).any()
    if method not in PAIRWISE:
        assert (ones == {"all": 5, "best_and_worst": 2, "both": 7}[estimator]).all()


def test_block_methods_need_embeddings_and_the_monitor_starts_at_rest():
    assert block_drift(scored(), None).drift == 0 and block_drift(scored(), None).tightening == 1
    with pytest.raises(ValueError, match="'gprl': needs embeddings"):
        signals(scored()._replace(embedding=None), PolicyLossConfig(method="gprl", estimator="all"))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_is_valid_and_its_step_has_the_right_shapes(name):
    config = load_config(f"configs/{name}.py").validate()
    assert isinstance(config, ImproveConfig)
    preset = {"smollm2": "smollm2-135m"}.get(config.policy.source, "llama3-8b")
    model = Decoder(PRESETS[preset], config.policy.runtime())

    def ints(*shape):
        return jax.ShapeDtypeStruct(shape, jnp.int32)

    def init(key, tokens):
        return model.init(key, tokens, sequence_layout(jnp.full(1, 8), 8))["params"]

    params = {"decoder": jax.eval_shape(init, jax.random.key(0), ints(1, 8))}
    trainable, frozen = split_params(params, frozen_patterns(config.policy))
    rows, count, length = config.batch, config.rollout.responses, config.rollout.max_new_tokens
    shape = PolicyShape(rows, config.prompts.max_length + count * length, count, length)
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype), assemble_policy([], shape._replace(rows=1))
    )
    optimizer = make_optimizer(config.optimizer, steps=100)
    state = TrainState(ints(), trainable, jax.eval_shape(optimizer.init, trainable))
    step = make_policy_step(model, optimizer, config.loss, accumulate=config.optimizer.accumulate)
    after, metrics = jax.eval_shape(step, state, frozen, batch)

    def same(tree):
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)

    assert same(after) == same(state)
    assert metrics["loss"].shape == () and metrics["example_loss"].shape == (rows,)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(score_factor=0.0), r"config.loss.score_factor=0.0: must be positive"),
        (dict(ipo_logprob="token", method="ipo"), r"config.loss.ipo_logprob is 'token'; allowed: 'sum', 'mean'"),
        (dict(ipo_logprob="mean", method="dpo"), r"config.loss.ipo_logprob='mean': must be 'sum' with method='dpo'"),
    ],
)
def test_what_a_loss_cannot_be_is_refused(changed, message):
    with pytest.raises(ValueError, match=message) as refused:
        PolicyLossConfig(**changed).validate()
    assert "\n" not in str(refused.value)


def test_the_released_recipe_is_the_released_recipe():
    config = load_config("configs/gpo_llama3_8b.py")
    assert (config.loss.beta, config.loss.score, config.loss.estimator) == (0.001, "log_odds", "best_and_worst")
    # Its scoring code's signals are twice the paper's; the others say which they take.
    factors = [load_config(f"configs/{name}.py").loss.score_factor for name in CONFIGS]
    assert dict(zip(CONFIGS, factors, strict=True)) == {
        "gpo_smollm2": 1.0, "gpo_llama3_8b": 2.0, "sppo_llama3_8b": 2.0, "dpo_llama3_8b": 1.0,
        "comal_smollm2": 1.0, "comal_llama3_8b": 1.0,
    }  # fmt: skip
    for name in ("gpo_smollm2", "gpo_llama3_8b", "sppo_llama3_8b"):
        assert load_config(f"configs/{name}.py").loss.log_partition == "zero"
    assert (config.optimizer.name, config.optimizer.learning_rate, config.batch) == ("rmsprop", 5e-7, 8 * 8)
    rollout = config.rollout
    assert (rollout.responses, rollout.temperature, rollout.top_p, rollout.max_new_tokens) == (5, 0.7, 0.9, 2048)
    assert (config.iterations, config.epochs, config.prompts.parts) == (3, 1, 3)
