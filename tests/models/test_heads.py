"""Laws of the heads: gates are ≥ 0, embeddings are normalised where declared, τ is declared or learned."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpmjax.arrays import Comparisons
from gpmjax.models.heads import PreferenceHeads, scale_gate, unit_length
from gpmjax.models.scores import cyclic_scores, group_scores, pair_scores
from gpmjax.models.spec import GATES, PreferenceSpec

WIDTH = 12


def states(seed=0, rows=2, responses=3):
    rng = np.random.default_rng(seed)
    response, prompt = (jnp.asarray(rng.standard_normal((rows, responses, WIDTH)), jnp.float32) for _ in range(2))
    return response, prompt


def run(spec, response, prompt, seed=0):
    heads = PreferenceHeads(spec)
    params = heads.init(jax.random.key(seed), response, prompt)
    return params["params"], heads.apply(params, response, prompt)


@pytest.mark.parametrize("kind", GATES[1:])
def test_gates_are_non_negative_and_finite_with_their_gradients(kind):
    logits = jnp.asarray(np.random.default_rng(0).normal(scale=60, size=(50, 4)), jnp.float32)
    scale, back = jax.vjp(lambda z: scale_gate(kind, z, WIDTH), logits)
    assert np.all(scale >= 0) and np.isfinite(scale).all()
    assert np.isfinite(back(jnp.ones_like(scale))[0]).all()
    total = {"softmax": 1.0, "scaled_softmax": 4.0}.get(kind)
    if total:
        np.testing.assert_allclose(scale.sum(-1), total, rtol=1e-5)


@pytest.mark.parametrize("gate", GATES)
def test_scores_are_skew_symmetric_within_a_prompt(gate):
    response, prompt = states()
    prompt = jnp.broadcast_to(prompt[:, :1], prompt.shape)
    params, out = run(PreferenceSpec(dim=4, gate=gate), response, prompt)
    assert ("gate" in params) == (out.scale is not None) == (gate != "none")
    scores = group_scores(out)
    np.testing.assert_allclose(scores, -jnp.swapaxes(scores, 1, 2), atol=1e-6)
    np.testing.assert_allclose(jnp.linalg.norm(out.embedding, axis=-1), 1.0, atol=1e-6)


def test_without_normalisation_the_head_is_linear():
    response, prompt = states()
    spec = PreferenceSpec(dim=4, gate="none", normalise="none")
    params, out = run(spec, response, prompt)
    np.testing.assert_allclose(out.embedding, response @ params["value"]["kernel"], atol=1e-5)


def test_unit_length_is_differentiable_at_zero():
    gradient = jax.grad(lambda v: unit_length(v).sum())(jnp.zeros(4))
    assert np.isfinite(gradient).all() and not unit_length(jnp.zeros(4)).any()


def test_heads_start_at_the_released_recipe():
    kernel = PreferenceHeads(PreferenceSpec(dim=64)).init(jax.random.key(0), *[jnp.ones((1, 511))] * 2)
    values = kernel["params"]["value"]["kernel"]
    assert values.shape == (511, 64) and abs(float(values.std()) * 512 - 1) < 0.02


def test_mlp_heads_have_the_layers_of_the_published_ones():
    spec = PreferenceSpec(dim=6, gate="softmax", head="mlp", mlp_widths=(8, 7, 5))
    params, out = run(spec, *states())
    shapes = jax.tree.map(jnp.shape, params)
    assert shapes["value"]["net_0"] == {"kernel": (WIDTH, 8), "bias": (8,)}
    assert shapes["value"]["net_6"] == {"kernel": (5, 6), "bias": (6,)}
    assert list(shapes["gate"]) == ["net_0", "net_2", "net_4", "net_6"] and out.scale.shape == (2, 3, 3)


def test_tau_is_declared_or_learned():
    response, prompt = states()
    spec = PreferenceSpec(dim=2, tau=0.25, gate="none")
    params, out = run(spec, response, prompt)
    assert float(out.tau) == 0.25 and set(params) == {"value"}

    heads = PreferenceHeads(dataclasses.replace(spec, tau_mode="learned"))
    params = heads.init(jax.random.key(0), response, prompt)["params"]
    slope = jax.grad(lambda p: heads.apply({"params": p}, response, prompt).tau)(params)["log_tau"]
    np.testing.assert_allclose(slope, 0.25, rtol=1e-6)


def test_a_reward_is_a_single_number():
    params, out = run(PreferenceSpec.bradley_terry(), *states())
    assert params["value"]["kernel"].shape == (WIDTH, 1) and out.scale is None
    reward = out.embedding[..., 0]
    np.testing.assert_allclose(group_scores(out)[0, 1, 2], reward[0, 1] - reward[0, 2], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(dim=5), "dim is 5"),
        (dict(kind="pair"), "'gpm', 'bt'"),
        (dict(kind="bt"), "allowed: 1"),
        (dict(gate="relu"), "'softplus'"),
        (dict(normalise="l1"), "normalise is 'l1'"),
        (dict(tau=0.0), "tau=0.0: must be in"),
        (dict(head="mlp"), "mlp_widths"),
        (dict(mlp_widths=(4,)), "mlp_widths"),
        (dict(tau_mode="annealed"), "'learned'"),
    ],
)
def test_a_bad_spec_is_refused_in_one_line(change, words):
    with pytest.raises(ValueError, match=words) as error:
        PreferenceSpec(**change).validate()
    assert "\n" not in str(error.value)


def test_spec_survives_json():
    spec = PreferenceSpec(dim=8, head="mlp", mlp_widths=(4, 3), gate="sigmoid", tau_mode="learned")
    assert PreferenceSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    with pytest.raises(ValueError, match="'gates'"):
        PreferenceSpec.from_dict({"gates": "softmax"})


HYBRID = PreferenceSpec(kind="hybrid", dim=4, gate="scaled_softmax", normalise="none", tau=0.5, gamma=0.25)


def test_a_hybrid_scores_by_reward_and_weighted_cyclic_part():
    response, prompt = states()
    prompt = jnp.broadcast_to(prompt[:, :1], prompt.shape)
    heads = PreferenceHeads(HYBRID)
    rng = np.random.default_rng(3)
    value, gate = (rng.normal(size=shape).astype(np.float32) for shape in ((WIDTH, 5), (WIDTH, 2)))
    out = heads.apply({"params": {"value": {"kernel": value}, "gate": {"kernel": gate}}}, response, prompt)
    numbers = np.asarray(response) @ value
    r, c = numbers[..., 0], numbers[..., 1:]
    logits = np.asarray(prompt)[:, 0] @ gate / np.sqrt(WIDTH)
    scale = 2 * np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    cyclic = sum(
        scale[:, k, None, None]
        * (c[:, :, None, 2 * k] * c[:, None, :, 2 * k + 1] - c[:, :, None, 2 * k + 1] * c[:, None, :, 2 * k])
        for k in range(2)
    )
    np.testing.assert_allclose(group_scores(out), r[:, :, None] - r[:, None, :] + 0.25 * cyclic, atol=1e-4)
    np.testing.assert_allclose(out.reward, r, atol=1e-5)
    chosen, rejected = np.array([[0, 2], [1, 0]], np.int32), np.array([[1, 1], [2, 1]], np.int32)
    one = np.ones((2, 2), np.float32)
    pairs = Comparisons(chosen, rejected, one, 0 * one, one, chosen)
    expected = [
        [0.25 * cyclic[b, i, j] for i, j in zip(*sides, strict=True)]
        for b, sides in enumerate(zip(pairs.chosen, pairs.rejected, strict=False))
    ]
    np.testing.assert_allclose(cyclic_scores(out, pairs), expected, atol=1e-4)
    difference = jnp.take_along_axis(out.reward, pairs.chosen, 1) - jnp.take_along_axis(out.reward, pairs.rejected, 1)
    np.testing.assert_allclose(pair_scores(out, pairs), difference + np.array(expected), atol=1e-4)


def test_a_hybrid_without_cyclic_weight_is_bradley_terry_and_without_reward_a_general_model():
    response, prompt = states()
    params = PreferenceHeads(HYBRID).init(jax.random.key(0), response, prompt)["params"]
    params = {"value": {"kernel": 9 * params["value"]["kernel"]}, "gate": params["gate"]}

    def read(spec, params):
        return group_scores(PreferenceHeads(spec).apply({"params": params}, response, prompt))

    bt = read(PreferenceSpec.bradley_terry(), {"value": {"kernel": params["value"]["kernel"][:, :1]}})
    np.testing.assert_allclose(read(dataclasses.replace(HYBRID, gamma=0.0), params), bt, atol=1e-5)
    silent = {"value": {"kernel": params["value"]["kernel"].at[:, 0].set(0)}, "gate": params["gate"]}
    gpm = PreferenceSpec(dim=4, gate="scaled_softmax", normalise="none", tau=0.5)
    expected = read(gpm, {"value": {"kernel": params["value"]["kernel"][:, 1:]}, "gate": params["gate"]})
    np.testing.assert_allclose(read(dataclasses.replace(HYBRID, gamma=1.0), silent), expected, atol=1e-5)


def test_a_scaled_softmax_gate_starts_as_no_gate():
    response, prompt = states()
    _, out = run(PreferenceSpec(dim=6, gate="scaled_softmax"), response, prompt)
    np.testing.assert_array_equal(out.scale, np.ones_like(out.scale))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gamma": 1.5}, r"gamma=1.5: must be in \[0, 1\]"),
        ({"gamma": float("nan")}, "gamma=nan: must be"),
        ({"kind": "gpm"}, "gamma is 0.25; only kind='hybrid'"),
        ({"dim": 3}, "dim is 3; a preference embedding needs an even one"),
        ({"dim": 0}, "dim=0: must be"),
    ],
)
def test_impossible_hybrid_specs_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(HYBRID, **change).validate()
