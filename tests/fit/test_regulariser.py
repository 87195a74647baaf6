"""What a cycle costs: penalties in the loss, the path of prices, what is held out, the rule, and the second stage."""

import dataclasses
import json
import math
import operator

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from gpmjax.arrays import Comparisons, FeatureBatch
from gpmjax.config import LossConfig, OptimizerConfig
from gpmjax.data.encode import EncodedGroup
from gpmjax.data.groups import Comparison
from gpmjax.fit import curl_path, folds, regulariser, second_stage
from gpmjax.fit.fit import fit
from gpmjax.fit.step import comparison_losses, make_train_step
from gpmjax.hub import load_preference_model
from gpmjax.models.config import DecoderConfig
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.spec import PreferenceSpec
from gpmjax.sharding import make_mesh
from gpmjax.train.backbone import open_backbone
from gpmjax.train.optimizer import make_optimizer, scale_head_updates
from gpmjax.train.state import TrainState

WIDTH, PROMPTS, RESPONSES = 6, 40, 4
TINY = DecoderConfig(vocab_size=9, hidden_size=WIDTH, num_layers=1, num_heads=2, mlp_size=8)
HYBRID = PreferenceSpec(kind="hybrid", dim=2, gate="none", normalise="none", tau=1.0)
PLAIN = OptimizerConfig(learning_rate=0.05, schedule="constant", warmup_fraction=0)


def encoded(prompts=PROMPTS, responses=RESPONSES):
    """Groups with every pair of their responses compared, the lower number first; texts are all different."""
    pairs = [(i, j) for i in range(responses) for j in range(i + 1, responses)]
    groups = []
    for p in range(prompts):
        comparisons = tuple(Comparison(i, j, number=p * len(pairs) + n) for n, (i, j) in enumerate(pairs))
        texts = tuple(np.array([p, r, 1], np.int32) for r in range(responses))
        groups.append(EncodedGroup(np.array([7, p], np.int32), 1, texts, comparisons))
    return groups, prompts * len(pairs)


def labelled(rule, seed=0, noise=0.0):
    """One batch of all groups' features and labels: ``rule(x_i, x_j)`` is the log-odds that i beats j, then some are
    flipped."""
    rng = np.random.default_rng(seed)
    groups, count = encoded()
    features = rng.normal(size=(PROMPTS, RESPONSES, WIDTH)).astype(np.float32)

    def index(values):
        return np.array(values, np.int32).reshape(PROMPTS, -1)

    chosen, rejected, row = (
        index([getattr(c, name) for group in groups for c in group.comparisons])
        for name in ("chosen", "rejected", "number")
    )
    sides = [np.take_along_axis(features, side[..., None], axis=1) for side in (chosen, rejected)]
    wins = (rule(*sides) > 0) ^ (rng.random(chosen.shape) < noise)
    target = wins.astype(np.float32)
    ones = np.ones_like(target)
    comparisons = Comparisons(chosen, rejected, target, 0 * ones, ones, row)
    batch = FeatureBatch(features, np.zeros_like(features), np.ones(features.shape[:2], bool), comparisons)
    return groups, count, batch


def reward_rule(left, right):
    return left[..., 0] - right[..., 0]


def cyclic_rule(left, right):
    return left[..., 0] * right[..., 1] - left[..., 1] * right[..., 0]


def heads_of(spec, seed=0):
    rng = np.random.default_rng(seed)
    heads = {"value": {"kernel": 0.1 * rng.normal(size=(WIDTH, spec.outputs)).astype(np.float32)}}
    if spec.gate != "none":
        heads["gate"] = {"kernel": 0.1 * rng.normal(size=(WIDTH, spec.blocks)).astype(np.float32)}
    return heads


def chosen_by(rule, noise, steps=60, gate_penalty="0", spec=HYBRID):
    groups, count, batch = labelled(rule, noise=noise)
    target = np.zeros(count, np.float32)
    target[batch.comparisons.number] = batch.comparisons.target
    return curl_path.choose_price(
        PreferenceModel(TINY, spec),
        heads_of(spec),
        make_optimizer(PLAIN, steps),
        LossConfig(curl="auto", gate_penalty=gate_penalty),
        folds.make_folds([groups], count, 4, seed=0),
        (batch for _ in range(steps)),
        lambda: iter([batch]),
        curl_path.Targets(target, np.ones(count, np.float32)),
    )


# The loss


def output_and_pairs():
    spec = dataclasses.replace(HYBRID, dim=4, gate="scaled_softmax", tau=0.5)
    _, _, batch = labelled(reward_rule)
    batch = batch._replace(prompt=np.random.default_rng(4).normal(size=batch.response.shape).astype(np.float32))
    model = PreferenceModel(TINY, spec)
    heads = jax.tree.map(lambda leaf: 5 * leaf, heads_of(spec))
    return model.apply({"params": {"heads": heads}}, batch), batch, heads


def test_penalties_are_those_of_the_formula():
    output, batch, heads = output_and_pairs()
    plain = comparison_losses(output, batch.comparisons, LossConfig())[1]
    config = LossConfig(curl="0.3", gate_penalty="0.7")
    penalty = np.asarray(comparison_losses(output, batch.comparisons, config)[1] - plain)
    numbers = batch.response @ heads["value"]["kernel"]
    logits = batch.prompt @ heads["gate"]["kernel"] / np.sqrt(WIDTH)
    scale = 2 * np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    for b, c in ((0, 0), (3, 5), (39, 2)):
        i, j = batch.comparisons.chosen[b, c], batch.comparisons.rejected[b, c]
        u, v, gate = numbers[b, i, 1:], numbers[b, j, 1:], (scale[b, i] + scale[b, j]) / 2
        cyclic = gate[0] * (u[0] * v[1] - u[1] * v[0]) + gate[1] * (u[2] * v[3] - u[3] * v[2])
        expected = 0.3 * (cyclic / 0.5) ** 2 + 0.7 * np.mean((scale[b, [i, j]] - 1) ** 2)
        np.testing.assert_allclose(penalty[b, c], expected, rtol=1e-3)


def test_centering_pulls_a_hybrids_rewards():
    output, batch, _ = output_and_pairs()
    plain = comparison_losses(output, batch.comparisons, LossConfig())[1]
    pulled = comparison_losses(output, batch.comparisons, LossConfig(centering=0.5))[1]
    i, j = batch.comparisons.chosen[0, 0], batch.comparisons.rejected[0, 0]
    expected = 0.5 * (output.reward[0, i] + output.reward[0, j]) ** 2
    np.testing.assert_allclose(pulled[0, 0] - plain[0, 0], expected, rtol=1e-4)


def test_the_cyclic_part_may_learn_slower():
    optimizer = make_optimizer(dataclasses.replace(PLAIN, cyclic_rate=0.25), 10)
    heads = {"heads": {"value": {"kernel": jnp.zeros((WIDTH, 3))}, "gate": {"kernel": jnp.zeros((WIDTH, 1))}}}
    updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, heads), optimizer.init(heads), heads)
    np.testing.assert_allclose(updates["heads"]["value"]["kernel"][0], [-0.05, -0.0125, -0.0125], rtol=1e-3)
    np.testing.assert_allclose(updates["heads"]["gate"]["kernel"], -0.05, rtol=1e-3)


def test_updates_of_an_mlp_heads_last_layer_alone_are_scaled_by_column():
    rule = scale_head_updates(reward=0.0, cyclic=2.0, other=3.0)
    layers = {f"net_{n}": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)} for n in (0, 2, 10)}
    updates = {"heads": {"value": layers, "log_tau": jnp.ones(())}}
    scaled, _ = rule.update(updates, rule.init(updates))
    assert scaled["heads"]["value"]["net_10"]["bias"].tolist() == [0, 2]
    assert scaled["heads"]["value"]["net_10"]["kernel"].tolist() == [[0, 2], [0, 2]]
    assert scaled["heads"]["value"]["net_2"]["bias"].tolist() == [3, 3] and scaled["heads"]["log_tau"] == 3


# What is held out


def test_prompts_are_held_out_whole_and_every_comparison_once():
    groups, count = encoded()
    split = [part._replace(comparisons=part.comparisons[n::2]) for part in groups for n in (0, 1)]
    found = folds.make_folds([split[:7], split[7:]], count, 4, seed=1)
    assert found.unit == "prompts" and found.held_out.shape == (4, count)
    assert (found.held_out.sum(0) == 1).all() and (found.fit == ~found.held_out).all()
    by_prompt = found.held_out.reshape(4, PROMPTS, -1)
    assert (by_prompt.all(-1) == by_prompt.any(-1)).all()
    assert sorted(by_prompt.any(-1).sum(1)) == [10, 10, 10, 10]
    assert not np.array_equal(found.held_out, folds.make_folds([split], count, 4, seed=2).held_out)


def test_of_a_single_prompt_responses_are_held_out():
    (group,), count = encoded(prompts=1, responses=60)
    found = folds.make_folds([[group]], count, 3, seed=0)
    assert found.unit == "responses"
    for part in range(3):
        out = {side for c in group.comparisons if found.held_out[part, c.number] for side in (c.chosen, c.rejected)}
        seen = {side for c in group.comparisons if found.fit[part, c.number] for side in (c.chosen, c.rejected)}
        assert len(out) == 20 and len(seen) == 40 and not out & seen
    few, count = encoded(prompts=2)
    assert folds.make_folds([few], count, 3, seed=0).unit == "nothing"


def test_standard_errors_know_what_values_share():
    rng = np.random.default_rng(0)
    value, weight = rng.normal(size=50), rng.uniform(0.5, 2, size=50)
    first, second = rng.integers(0, 8, 50), rng.integers(8, 16, 50)
    residual = weight * (value - np.average(value, weights=weight))

    def share(a, b):
        return bool({first[a], second[a]} & {first[b], second[b]})

    dyadic = sum(residual[a] * residual[b] for a in range(50) for b in range(50) if share(a, b))
    np.testing.assert_allclose(
        folds.standard_error(value, weight, first, second), np.sqrt(max(dyadic, 0)) / weight.sum(), rtol=1e-9
    )
    clustered = sum(residual[first == unit].sum() ** 2 for unit in range(8))
    np.testing.assert_allclose(
        folds.standard_error(value, weight, first, first), np.sqrt(clustered) / weight.sum(), rtol=1e-9
    )


# The path


def test_a_member_of_the_path_is_the_fit_at_its_price():
    """One vmapped program over prices and folds gives what `make_train_step` gives at that price on that fold's
    comparisons."""
    spec = dataclasses.replace(HYBRID, dim=4, gate="scaled_softmax")
    groups, count, batch = labelled(cyclic_rule)
    batch = batch._replace(prompt=np.random.default_rng(4).normal(size=batch.response.shape).astype(np.float32))
    found, heads, optimizer = folds.make_folds([groups], count, 4, seed=0), heads_of(spec), make_optimizer(PLAIN, 20)
    members = [(curl_path.Price(0.0, 0.0), 0), (curl_path.Price(0.3, 0.5), 2), (curl_path.Price(math.inf, 0.5), 1)]
    together = curl_path.fit_members(
        PreferenceModel(TINY, spec),
        heads,
        optimizer,
        LossConfig(curl="auto"),
        members,
        found,
        (batch for _ in range(20)),
    )["heads"]
    for n, (price, fold) in enumerate(members):
        alone = dataclasses.replace(spec, gamma=0.0) if math.isinf(price.curl) else spec
        loss = LossConfig(curl=str(price.curl), gate_penalty=str(price.gate_penalty))
        step = jax.jit(make_train_step(PreferenceModel(TINY, alone), optimizer, loss))
        kept = batch.comparisons._replace(weight=found.fit[fold][batch.comparisons.number].astype(np.float32))
        params = {"heads": jax.tree.map(jnp.asarray, heads)}
        state = TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))
        for _ in range(20):
            state, _ = step(state, {}, batch._replace(comparisons=kept))
        mine = jax.tree.map(operator.itemgetter(n), together)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), mine, state.params["heads"])
    assert np.abs(together["value"]["kernel"][0] - together["value"]["kernel"][1]).max() > 0.1
    np.testing.assert_array_equal(together["value"]["kernel"][2][:, 1:], heads["value"]["kernel"][:, 1:])


def test_votes_that_a_reward_explains_choose_bradley_terry_and_a_cyclic_rule_does_not():
    transitive = chosen_by(reward_rule, noise=0.2)
    assert transitive.held_out == "prompts" and transitive.price.curl >= 0.3
    cyclic = chosen_by(cyclic_rule, noise=0.1)
    assert cyclic.price.curl <= 0.1
    rows = {row["curl"]: row for row in cyclic.path}
    assert rows[cyclic.price.curl]["accuracy"] > rows[math.inf]["accuracy"] + 0.1
    assert [row["chosen"] for row in cyclic.path].count(True) == 1
    assert transitive.gain["p"] > 0.05 > cyclic.gain["p"] and cyclic.gain["prompts"] == PROMPTS
    assert cyclic.gain["gain"]["value"] > 0.05
    summary = json.loads(json.dumps(cyclic.summary()))
    assert summary["path"][-1]["curl"] == "inf" and summary["curl"] == cyclic.price.curl


def test_held_out_log_odds_are_of_fits_that_did_not_see_the_comparison():
    """Labels are noise: what was fitted to them is right about them, what was not is right by half."""
    noise = chosen_by(reward_rule, noise=0.5, steps=200)
    assert np.isfinite(noise.log_odds).all()
    assert all(0.35 < row["accuracy"] < 0.62 for row in noise.path)


def test_the_gate_is_chosen_with_the_curl():
    spec = dataclasses.replace(HYBRID, dim=4, gate="scaled_softmax")
    found = chosen_by(cyclic_rule, noise=0.1, steps=20, gate_penalty="auto", spec=spec)
    assert len(found.path) == 6 * len(curl_path.GATE_PENALTIES) + 1
    assert {row["gate_penalty"] for row in found.path} == set(curl_path.GATE_PENALTIES)
    given = curl_path.prices(LossConfig(curl="auto", gate_penalty="0.2"), has_gate=True)
    assert {price.gate_penalty for price in given} == {0.2} and len(given) == 7


# Whole runs


@pytest.fixture
def hybrid(config):
    config.model.kind, config.model.gate, config.model.normalise, config.model.tau = (
        "hybrid",
        "scaled_softmax",
        "none",
        1.0,
    )
    config.loss.curl = config.loss.gate_penalty = "auto"
    return config


def many_prompts(tmp_path):
    """A pair a prompt, of which the longer response wins."""
    path = tmp_path / "many.jsonl"

    def row(n):
        return {"prompt": f"q{n}", "chosen": "y" * (9 + n % 5), "rejected": "n" * (1 + n % 4)}

    path.write_text("".join(json.dumps(row(n)) + "\n" for n in range(24)), encoding="utf-8")
    return str(path)


def test_a_frozen_fit_chooses_and_a_resumed_one_keeps_the_choice(hybrid, tmp_path, monkeypatch):
    hybrid.model.backbone, hybrid.export = "frozen", "native"
    hybrid.data.train = hybrid.data.eval = (many_prompts(tmp_path),)
    summary = fit(hybrid, tmp_path / "run")
    figures = summary["regularisation"]
    assert figures["held_out"] == "prompts" and len(figures["path"]) == 19
    assert json.loads((tmp_path / "run" / "regularisation.json").read_text(encoding="utf-8")) == figures
    spec = load_preference_model(str(tmp_path / "run" / "model")).spec
    assert spec.kind == "hybrid" and spec.gamma == (0.0 if figures["curl"] == "inf" else 1.0)
    monkeypatch.setattr(regulariser, "_choose", lambda *_: pytest.fail("a resumed run chose anew"))
    assert fit(hybrid, tmp_path / "run")["regularisation"] == figures
    (tmp_path / "run" / "regularisation.json").write_text(json.dumps(figures | {"curl": 0.123}), encoding="utf-8")
    with pytest.raises(ValueError, match="chosen.curl=.*, this config has 0.123"):
        fit(hybrid, tmp_path / "run")
    (tmp_path / "run" / "regularisation.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="regularisation.json: not a JSON object"):
        fit(hybrid, tmp_path / "run")


def test_a_fit_that_trains_its_backbone_takes_two_stages(hybrid, tmp_path):
    hybrid.export = "native"
    hybrid.data.train = hybrid.data.eval = (many_prompts(tmp_path),)
    summary = fit(hybrid, tmp_path / "run")
    figures = summary["regularisation"]
    assert figures["held_out"] == "prompts" and figures["held_out_groups"] in (2, 3)
    loaded = load_preference_model(str(tmp_path / "run" / "model"))
    assert (loaded.spec.gamma, loaded.spec.tau) == (figures["gamma"], figures["tau"]) and summary["tau"] == figures[
        "tau"
    ]
    # Stage two keeps stage one's reward and moves the cyclic part.
    stage_one = ocp.StandardCheckpointer().restore(tmp_path / "run" / "checkpoints" / "12" / "params")["heads"][
        "value"
    ]["kernel"]
    exported = loaded.params["heads"]["value"]["kernel"]
    np.testing.assert_array_equal(exported[:, 0], stage_one[:, 0])
    assert np.abs(exported[:, 1:] - stage_one[:, 1:]).max() > 1e-4


def test_without_a_price_for_cycles_below_infinity_the_fit_is_bradley_terrys(hybrid, tmp_path):
    """At ρ = ∞ the reward and the backbone are those of a Bradley–Terry run, and the cyclic part does not move."""
    hybrid.loss = LossConfig(curl="inf")
    hybrid.model.gate, hybrid.export, hybrid.steps = "none", "native", 4
    scalar = dataclasses.replace(hybrid, loss=LossConfig(), model=hybrid.model.as_bradley_terry())
    loaded = {}
    for name, one in (("hybrid", hybrid), ("bt", scalar)):
        fit(one, tmp_path / name)
        loaded[name] = load_preference_model(str(tmp_path / name / "model"))
    assert loaded["hybrid"].spec.gamma == 0
    after, bt = (loaded[name].params["heads"]["value"]["kernel"] for name in ("hybrid", "bt"))
    np.testing.assert_allclose(after[:, :1], bt, atol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4),
        *(loaded[name].params["decoder"] for name in ("hybrid", "bt")),
    )
    backbone = open_backbone(hybrid.model, make_mesh(fsdp=1, devices=jax.devices()[:1]), hybrid.seed)
    start = backbone.load_heads()["value"]["kernel"]
    np.testing.assert_array_equal(after[:, 1:], start[:, 1:])
    assert np.abs(after[:, 0] - start[:, 0]).max() > 1e-4


# Stage two's choice


@pytest.mark.parametrize(("real", "expected"), [(False, 0.0), (True, 1.0)])
def test_gamma_is_zero_unless_the_cyclic_part_is_better(real, expected):
    rng = np.random.default_rng(0)
    count = 600
    reward, cyclic = rng.normal(size=count), 2 * rng.normal(size=(2, count))
    truth = 2 * (reward + cyclic[1] if real else reward)
    target = (rng.random(count) < 1 / (1 + np.exp(-truth))).astype(np.float32)
    points = [curl_path.Price(0.0, 0.0), curl_path.Price(0.3, 0.0)]
    path, gain = second_stage.chosen_weights(reward, cyclic, points, 1.0, target, np.ones(count), np.arange(count) // 3)
    (row,) = [row for row in path if row["chosen"]]
    assert row["gamma"] >= 0.7 if expected else row["gamma"] == 0
    assert row["curl"] == (0.3 if real else math.inf)
    assert 0.3 < row["tau"] < 0.8  # the labels were drawn at τ = ½
    assert gain["prompts"] == 200 and (gain["p"] < 0.01) == real and (gain["gain"]["value"] > 0.05) == real


def test_penalties_that_cannot_be_are_refused(config):
    for change, message in [
        ({"curl": "-1"}, r"config.loss.curl='-1': must be a number ≥ 0 "),
        ({"curl": "many"}, r"config.loss.curl='many'"),
        ({"curl": "0.1"}, r"config.loss.curl='0.1': must be 0 unless model.kind='hybrid'"),
        ({"gate_penalty": "auto"}, r"config.loss.gate_penalty='auto': must be a number unless loss.curl='auto'"),
        ({"gate_penalty": "nan"}, r"config.loss.gate_penalty='nan'"),
        ({"folds": 1}, r"config.loss.folds=1"),
    ]:
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(config, loss=LossConfig(**change)).validate()
