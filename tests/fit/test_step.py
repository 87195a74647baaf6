"""One update: accumulated ≡ full, eight devices ≡ one, and what is frozen stays."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpmjax.arrays import Comparisons
from gpmjax.config import LossConfig, OptimizerConfig
from gpmjax.config.parts import OPTIMIZERS
from gpmjax.data.chat import ChatFormat
from gpmjax.data.pipeline import Pipeline, fit_shape, prepare
from gpmjax.fit.step import batch_weighs, comparison_losses, make_train_step
from gpmjax.hub import load_tokenizer
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.presets import PRESETS
from gpmjax.models.scores import PairwiseOutput
from gpmjax.models.spec import PreferenceSpec
from gpmjax.sharding import make_mesh, put_batch
from gpmjax.train.optimizer import ALL_BUT_ADAPTERS, make_optimizer, merge_params, schedule, split_params
from gpmjax.train.state import TrainState, init_state
from gpmjax.train.step import make_step

LOSS = LossConfig(lm_coefficient=0.1, label_smoothing=0.1)


@pytest.fixture(scope="module")
def batch(tokenizer_directory, pairs_file):
    chat = ChatFormat(load_tokenizer(str(tokenizer_directory)))
    sources = prepare([str(pairs_file)], chat, max_length=64).sources
    return Pipeline(sources, fit_shape(sources[0], rows=8, tokens=160)).batch(0)


@pytest.fixture(scope="module")
def model():
    return PreferenceModel(PRESETS["tiny"], PreferenceSpec(dim=4, gate="sigmoid", tau=0.3))


@pytest.fixture(scope="module")
def params(model, batch):
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)["params"]
    draw = np.random.default_rng(0).normal
    return jax.tree.map(lambda leaf: draw(size=leaf.shape, scale=0.2).astype(np.float32), shapes)


def one_step(model, params, batch, *, mesh, accumulate=1, loss=LOSS):
    """Parameters and metrics after one plain gradient step of size 1."""
    optimizer = make_optimizer(
        OptimizerConfig(name="sgd", learning_rate=1.0, schedule="constant", warmup_fraction=0, b1=0.0, clip_norm=0), 10
    )
    state = init_state(jax.tree.map(jnp.asarray, params), optimizer, mesh)
    step = jax.jit(make_train_step(model, optimizer, loss, accumulate))
    state, metrics = step(state, {}, put_batch(mesh, batch))
    return jax.device_get(state.params), jax.device_get(metrics)


@pytest.fixture(scope="module")
def reference(model, params, batch):
    return one_step(model, params, batch, mesh=make_mesh(devices=jax.devices()[:1]))


def assert_same(result, reference):
    (params, metrics), (expected, expected_metrics) = result, reference
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), params, expected)
    for name in expected_metrics:
        np.testing.assert_allclose(metrics[name], expected_metrics[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("axes", [{"fsdp": 8}, {"data": 2, "fsdp": 2, "tensor": 2}])
def test_eight_devices_take_the_step_of_one(model, params, batch, reference, axes):
    assert_same(one_step(model, params, batch, mesh=make_mesh(**axes)), reference)


def test_accumulated_equals_full(model, params, batch, reference):
    mesh = make_mesh(devices=jax.devices()[:2])
    assert_same(one_step(model, params, batch, mesh=mesh, accumulate=4), reference)


def test_comparisons_of_weight_zero_change_nothing(model, params, batch, reference):
    """A comparison of weight 0 has neither value nor gradient, whatever else it says."""
    comparisons = batch.comparisons
    spoilt = comparisons._replace(target=np.where(comparisons.weight > 0, comparisons.target, np.float32(7)))
    mesh = make_mesh(devices=jax.devices()[:1])
    params_after, metrics = one_step(model, params, batch._replace(comparisons=spoilt), mesh=mesh)
    expected, expected_metrics = reference
    jax.tree.map(np.testing.assert_array_equal, params_after, expected)
    assert metrics["loss"] == expected_metrics["loss"]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_batch_in_which_nothing_weighs_is_no_step(name):
    """After a real step, so that the optimiser remembers one: its moments, parameters and schedule stay as they are."""
    config = OptimizerConfig(
        name=name, learning_rate=1e-2, weight_decay=0.1 if name == "adamw" else 0.0, warmup_fraction=0.5
    )
    optimizer, params = make_optimizer(config, 10), {"kernel": jnp.ones((2, 3))}

    def loss(params, weight, totals):
        share = jnp.sum(weight * jnp.sum(jnp.square(params["kernel"]))) / totals["weight"]
        return share, {"loss": share}

    def totals(weight):
        return {"weight": jnp.maximum(jnp.sum(weight), 1.0)}

    step = jax.jit(make_step(weighs=lambda weight: jnp.any(weight > 0), totals=totals, loss=loss, optimizer=optimizer))
    before, _ = step(TrainState(jnp.int32(0), params, optimizer.init(params)), {}, jnp.ones(2))
    assert np.all(before.params["kernel"] < 1)
    after, metrics = step(before, {}, jnp.zeros(2))
    assert int(after.step) == 2 and float(metrics["gradient_norm"]) == 0
    jax.tree.map(np.testing.assert_array_equal, (after.params, after.optimizer), (before.params, before.optimizer))
    resumed, _ = step(after, {}, jnp.array([0.0, 0.1]))
    straight, _ = step(before, {}, jnp.array([0.0, 0.1]))
    jax.tree.map(np.testing.assert_array_equal, resumed.params, straight.params)
    assert np.all(resumed.params["kernel"] < after.params["kernel"])


def test_what_weighs_is_a_comparison_or_a_chosen_response_that_is_read(batch):
    silent = batch._replace(comparisons=batch.comparisons._replace(weight=0 * batch.comparisons.weight))
    empty = silent._replace(lm_weight=0 * batch.lm_weight)
    found = [bool(batch_weighs(some, config)) for config in (LossConfig(), LOSS) for some in (batch, silent, empty)]
    assert found == [True, False, False, True, True, False]


def test_split_and_merge_are_inverse_and_lora_trains_adapters_and_heads(params):
    adapters = {"layers": {"attention": {"q": {"lora_a": np.ones((2, 3, 1)), "lora_b": np.ones((2, 1, 3))}}}}
    tree = {"decoder": {**params["decoder"], **adapters}, "heads": params["heads"]}
    trainable, frozen = split_params(tree, [ALL_BUT_ADAPTERS])
    assert jax.tree.structure(merge_params(trainable, frozen)) == jax.tree.structure(tree)
    assert jax.tree.structure(trainable) == jax.tree.structure({"decoder": adapters, "heads": params["heads"]})


def test_schedule_climbs_then_falls():
    config = OptimizerConfig(learning_rate=1.0, warmup_fraction=0.1)
    rate = [float(schedule(config, 100)(n)) for n in range(100)]
    assert rate[0] == pytest.approx(0.1) and rate[9] == pytest.approx(1.0) == max(rate)
    assert all(a >= b for a, b in itertools.pairwise(rate[10:])) and rate[-1] < 0.01
    flat = dataclasses.replace(config, schedule="constant", warmup_fraction=0)
    assert float(schedule(flat, 100)(0)) == float(schedule(flat, 100)(99)) == 1.0


def test_weight_decay_spares_vectors(params):
    config = OptimizerConfig(learning_rate=1.0, schedule="constant", warmup_fraction=0, weight_decay=0.5, clip_norm=0)
    optimizer = make_optimizer(config, 10)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    assert not np.any(updates["decoder"]["final_norm"]["scale"])
    assert not np.any(updates["decoder"]["layers"]["mlp_norm"]["scale"])
    kernel = params["decoder"]["layers"]["mlp"]["up"]["kernel"]
    np.testing.assert_allclose(updates["decoder"]["layers"]["mlp"]["up"]["kernel"], -0.5 * kernel, rtol=1e-6)


def test_a_pairwise_model_answers_for_each_order():
    """Liking the first place whatever stands there is an error, though it cancels in the mean over both orders."""

    def index(*values):
        return jnp.array([values], jnp.int32)

    one = jnp.ones((1, 1))
    both = Comparisons(index(0), index(1), one, 0 * one, one, index(0))

    def loss(*values, pairs=both):
        return float(
            comparison_losses(PairwiseOutput(jnp.array([values]), jnp.float32(1)), pairs, LossConfig())[1][0, 0]
        )

    def softplus(z):
        return np.log1p(np.exp(z))

    assert loss(5.0, 5.0) == pytest.approx((softplus(-5.0) + softplus(5.0)) / 2, rel=1e-5)
    assert loss(2.0, -2.0) == pytest.approx(softplus(-2.0), rel=1e-5)
    asked_once = both._replace(rejected=index(0), target=0 * one)  # the rejected response was read first
    assert loss(2.0, -9.0, pairs=asked_once) == pytest.approx(softplus(2.0), rel=1e-5)
    with_margin = both._replace(margin=one)
    assert loss(2.0, -2.0, pairs=with_margin) == pytest.approx(softplus(-1.0), rel=1e-5)
