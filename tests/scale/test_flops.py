"""Model and hardware FLOPs: the formula against the products that a traced step holds, and against counting by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpmjax.arrays import Comparisons, FeatureBatch, TokenBatch, TokenLayout
from gpmjax.chips import peak_flops
from gpmjax.config import LossConfig, OptimizerConfig
from gpmjax.fit.step import make_train_step
from gpmjax.models.attention import blockwise
from gpmjax.models.config import DecoderConfig, LoRA, Runtime
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.spec import PreferenceSpec
from gpmjax.train.flops import dense_work, effort, hardware_flops, model_costs, needed_work
from gpmjax.train.optimizer import ALL_BUT_ADAPTERS, make_optimizer, split_params
from gpmjax.train.state import TrainState

CONFIG = dict(vocab_size=64, hidden_size=16, num_layers=3, num_heads=4, num_kv_heads=2, mlp_size=24)
LINEAR = PreferenceSpec(kind="gpm", dim=4, gate="softmax", normalise="l2", tau=0.1)
MLP = PreferenceSpec(kind="gpm", dim=4, gate="softmax", normalise="l2", tau=0.1, head="mlp", mlp_widths=(32, 8))
VERDICT = PreferenceSpec.pairwise("?", head="verdict", verdicts=("Y", "N"), verdict_tokens=(0, 1))
ADAPTERS = (ALL_BUT_ADAPTERS,)
LORA = LoRA(2, 4.0, ("q", "v", "down"))
ROWS, SLOTS, RESPONSES = 2, 8, 2


def tokens(group=1):
    """A batch without padding, each row one response of eight tokens or, with group=0, nothing but padding."""

    def i(*shape):
        return jnp.zeros(shape, jnp.int32)

    def f(*shape):
        return jnp.zeros(shape, jnp.float32)

    layout = TokenLayout(
        jnp.tile(jnp.arange(SLOTS, dtype=jnp.int32), (ROWS, 1)),
        jnp.full((ROWS, SLOTS), group, jnp.int32),
        i(ROWS, SLOTS),
    )
    at = i(ROWS, RESPONSES)
    pairs = Comparisons(i(ROWS, 1), i(ROWS, 1), f(ROWS, 1), f(ROWS, 1), f(ROWS, 1), i(ROWS, 1))
    mask = jnp.ones((ROWS, RESPONSES), bool)
    return TokenBatch(i(ROWS, SLOTS), layout, at, at, mask, i(ROWS, SLOTS), jnp.ones((ROWS, SLOTS)), pairs)


def products(jaxpr) -> float:
    """FLOPs of every matrix product in a traced program, scans as often as they turn.

    A while is a block of queries going through the keys that it sees: here, where a row is one block, once.
    """
    total = 0.0
    for equation in jaxpr.eqns:
        turns = equation.params["length"] if equation.primitive.name == "scan" else 1
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            inner = np.prod([equation.invars[0].aval.shape[axis] for axis in contracted])
            total += 2.0 * inner * np.prod(equation.outvars[0].aval.shape)
        for value in equation.params.values():
            for part in value if isinstance(value, tuple | list) else [value]:
                inside = getattr(part, "jaxpr", part)
                if hasattr(inside, "eqns"):
                    total += turns * products(inside)
    return total


@pytest.mark.parametrize(
    ("fields", "spec", "runtime", "freeze", "lm"),
    [
        ({}, LINEAR, Runtime(), (), 0.0),
        ({}, LINEAR, Runtime(remat="full"), (), 0.1),
        ({}, LINEAR, Runtime(remat="dots", attention="chunked"), (), 0.0),
        ({"post_norms": True, "tie_embeddings": True}, LINEAR, Runtime(remat="full", attention="chunked"), (), 0.0),
        ({}, LINEAR, Runtime(remat="full", lora=LORA), ADAPTERS, 0.0),
        ({}, LINEAR, Runtime(remat="dots", lora=LORA), ADAPTERS, 0.0),
        ({}, MLP, Runtime(remat="full"), ("^decoder/",), 0.0),
        ({}, MLP, Runtime(remat="full"), ("^decoder/", "net_0"), 0.0),
        ({}, LINEAR, Runtime(remat="dots"), ("embed", "mlp"), 0.0),
        ({}, LINEAR, Runtime(attention="blockwise"), (), 0.0),
        ({}, LINEAR, Runtime(remat="dots", attention="blockwise"), (), 0.0),
        ({}, LINEAR, Runtime(remat="full", attention="blockwise", lora=LORA), ADAPTERS, 0.0),
        ({}, MLP, Runtime(remat="full", attention="blockwise"), ("^decoder/",), 0.0),
        ({}, VERDICT, Runtime(remat="full"), (), 0.0),
        ({"tie_embeddings": True}, VERDICT, Runtime(), (), 0.0),
        ({}, VERDICT, Runtime(remat="full", lora=LORA), ADAPTERS, 0.0),
    ],
)
def test_hardware_flops_are_the_traced_steps_products(fields, spec, runtime, freeze, lm, monkeypatch):
    monkeypatch.setattr(blockwise, "BLOCK", SLOTS)
    config = DecoderConfig(**CONFIG, **fields)
    model, batch = PreferenceModel(config, spec, runtime), tokens()
    params = jax.eval_shape(lambda key: model.init(key, batch)["params"], jax.random.key(0))
    trainable, frozen = split_params(params, freeze)
    optimizer = make_optimizer(OptimizerConfig(name="sgd", clip_norm=0.0), 10)
    state = TrainState(jnp.zeros((), jnp.int32), trainable, jax.eval_shape(optimizer.init, trainable))
    step = make_train_step(model, optimizer, LossConfig(lm_coefficient=lm))
    traced = products(jax.make_jaxpr(step)(state, frozen, batch).jaxpr)
    assert (
        hardware_flops(config, model.runtime, trainable, frozen, dense_work(config, ROWS, SLOTS, RESPONSES, lm))
        == traced
    )


def test_a_trained_token_costs_six_a_weight_and_attention_what_it_sees():
    config = DecoderConfig(**CONFIG)
    kernels = {f"decoder/layers/{name}/kernel": 100 for name in ("attention/q", "mlp/up")} | {
        "decoder/embed/embedding": 999
    }
    everything, work = model_costs(config, kernels, kernels), needed_work(config, tokens())
    seen = 3 * ROWS * SLOTS * (SLOTS + 1) / 2
    assert work == (ROWS * SLOTS, seen, 0, ROWS * RESPONSES)
    assert everything.of(work) == 6 * 200 * ROWS * SLOTS + 12 * config.q_size * seen
    frozen = model_costs(config, kernels | {"heads/value/kernel": 7}, ["heads/value/kernel"])
    assert frozen == (2 * 200, 4 * config.q_size, 2 * 999, 4 * 7)
    adapted = model_costs(
        config, kernels | {"decoder/layers/attention/q/lora_a": 10}, ["decoder/layers/attention/q/lora_a"]
    )
    assert adapted.token == 4 * 200 + 6 * 10


def test_padding_and_masked_slots_need_nothing_and_windows_bound_what_is_seen():
    assert needed_work(DecoderConfig(**CONFIG), tokens(group=0))[:3] == (0, 0, 0)
    sliding = DecoderConfig(**CONFIG, layer_types=("sliding", "full", "sliding"), window=2)
    (full, near) = (ROWS * SLOTS * (SLOTS + 1) / 2, ROWS * (1 + 2 * (SLOTS - 1)))
    assert needed_work(sliding, tokens()).attended == full + 2 * near


def test_a_shared_prompt_is_counted_once():
    # Two responses of two tokens to a prompt of three: 7 tokens, not 10; each response token sees prompt and itself.
    row = TokenLayout(*(jnp.array([row], jnp.int32) for row in ([0, 1, 2, 3, 4, 3, 4], [1] * 7, [0, 0, 0, 1, 1, 2, 2])))
    batch = tokens()._replace(layout=row)
    work = needed_work(DecoderConfig(**CONFIG), batch)
    assert work.tokens == 7 and work.attended == 3 * (1 + 2 + 3 + 2 * (4 + 5))


def test_features_cost_their_heads_alone():
    config = DecoderConfig(**CONFIG)
    features = jnp.zeros((ROWS, RESPONSES, 16))
    batch = FeatureBatch(features, features, jnp.array([[True, True], [True, False]]), tokens().comparisons)
    metrics = effort(
        config, {"heads": {"value": {"kernel": jnp.zeros((16, 4))}}}, {}, needed_work(config, batch), "responses"
    )
    assert metrics == {"responses": 3, "model_flops": 3 * 4 * 64}


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("TPU v4", 275e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5e", 197e12),
        ("TPU v5", 459e12),
        ("TPU v5p", 459e12),
        ("TPU v6 lite", 918e12),
        ("TPU v6e", 918e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA B200", 2250e12),
        ("cpu", None),
        ("NVIDIA GeForce RTX 4090", None),
    ],
)
def test_peaks_by_what_jax_calls_the_chip(kind, peak):
    assert peak_flops(kind) == peak
