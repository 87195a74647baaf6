"""A hybrid's held-out gain: its sums are exact, its sampling unit is the prompt, and both nulls have the right size."""

import numpy as np
import pytest
from scipy.special import expit, log_expit

from gpmjax.preference.held_out_gain import held_out_gain
from gpmjax.preference.votes import redraw


def test_the_gain_is_the_mean_log_likelihood_ratio_of_each_prompt_and_of_all():
    hybrid, bt, target, weight = [1.0, -2.0, 0.5], [0.5, 0.0, 0.5], [1.0, 0.25, 0.5], [2.0, 1.0, 3.0]
    found = held_out_gain(hybrid, bt, target, ["a", "b", "a"], weight=weight)

    def value(z, t):
        return t * log_expit(z) + (1 - t) * log_expit(-z)

    gains = [w * (value(h, t) - value(b, t)) for h, b, t, w in zip(hybrid, bt, target, weight, strict=True)]
    assert found["total"] == pytest.approx(sum(gains)) and found["gain"]["value"] == pytest.approx(sum(gains) / 6)
    assert found["per_prompt"] == pytest.approx({"a": (gains[0] + gains[2]) / 5, "b": gains[1]})
    assert (found["comparisons"], found["prompts"], found["prompts_for"] + found["prompts_against"]) == (3, 2, 2)


def test_the_interval_draws_prompts():
    rng = np.random.default_rng(0)
    prompt = np.repeat(np.arange(40), 25)
    bt = np.zeros(1000)
    hybrid = rng.normal(size=40)[prompt]
    target = (rng.random(1000) < expit(rng.normal(size=40)[prompt])).astype(float)
    wide = held_out_gain(hybrid, bt, target, prompt)["gain"]["interval"]
    narrow = held_out_gain(hybrid, bt, target, np.arange(1000))["gain"]["interval"]
    assert np.diff(wide) > 2 * np.diff(narrow)


def test_names_of_prompts_do_not_matter_and_weight_zero_drops_a_comparison():
    rng = np.random.default_rng(1)
    hybrid, bt, target = [*rng.normal(size=(2, 30)).tolist(), rng.random(30).tolist()]
    prompt = [n // 3 for n in range(30)]
    found = held_out_gain(hybrid, bt, target, prompt)
    named = held_out_gain(hybrid, bt, target, [f"x{n}" for n in prompt])
    assert list(named["per_prompt"].values()) == list(found["per_prompt"].values()) and named["p"] == found["p"]
    more = held_out_gain([*hybrid, 9.0], [*bt, 0.0], [*target, 0.0], [*prompt, 99], weight=[1.0] * 30 + [0.0])
    assert more == found


def test_the_null_of_signs_has_the_right_size_and_some_power():
    def once(seed, better):
        rng = np.random.default_rng(seed)
        truth, prompt = rng.normal(size=90), np.repeat(np.arange(30), 3)
        target = redraw(truth, np.ones(90), rng)
        guesses = truth + rng.normal(size=(2, 90)) * [[1 - better], [1.0]]
        return held_out_gain(*guesses, target, prompt)["p"]

    wrong = np.mean([once(seed, 0.0) <= 0.05 for seed in range(300)])
    assert abs(wrong - 0.05) < 3 * (0.05 * 0.95 / 300) ** 0.5
    assert np.mean([once(seed, 1.0) <= 0.05 for seed in range(40)]) > 0.5


def test_with_few_prompts_every_choice_of_signs_is_tried():
    found = held_out_gain([1.0] * 3, [0.0] * 3, [1.0] * 3, [0, 1, 2])
    assert found["p"] == 1 / 8 and found["replicates"] == 7


def refitting(seed, cyclic):
    """The gain on one prompt of 8 responses: half the votes fit both models, the other half test them."""
    rng = np.random.default_rng(seed)
    i, j = np.triu_indices(8, 1)
    reward = rng.normal(size=8)
    truth = reward[i] - reward[j] + cyclic * rng.normal(size=28)
    design = np.zeros((28, 8))
    design[np.arange(28), i], design[np.arange(28), j] = 1, -1

    def fit(wins, features):
        weights = np.zeros(features.shape[1])
        for _ in range(8):
            p = expit(features @ weights)
            step = features.T @ (wins - 20 * p) - weights
            weights += np.linalg.solve(
                (features * (20 * p * (1 - p))[:, None]).T @ features + np.eye(len(weights)), step
            )
        return features @ weights

    def both(rng, log_odds):
        train, test = (20 * redraw(log_odds, np.full(28, 0.5), rng, votes=20) for _ in range(2))
        return fit(train, np.hstack([design, np.eye(28)])), (bt := fit(train, design)), test / 20, bt

    hybrid, bt, target, fitted = both(rng, truth)
    return held_out_gain(
        hybrid,
        bt,
        target,
        np.zeros(28),
        weight=np.full(28, 20.0),
        refit=lambda rng: both(rng, fitted)[:3],
        replicates=19,
    )


def test_with_a_refit_one_prompt_is_enough():
    assert np.mean([refitting(seed, 0.0)["p"] <= 0.05 for seed in range(40)]) <= 0.15
    found = [refitting(seed, 1.0) for seed in range(8)]
    assert all(each["p"] == 1 / 20 and each["null"] == "refit" for each in found)
    assert "cycles beyond vote noise: p = 0.050: found" in found[0]["text"] and found[0]["gain"]["interval"] is None


def test_without_a_refit_one_prompt_tells_nothing():
    found = held_out_gain([1.0], [0.0], [1.0], [0])
    assert found["p"] is None and "one prompt and no refit" in found["text"]
    assert "no model was refitted" in held_out_gain([1.0, 1.0], [0.0, 0.0], [1.0, 1.0], [0, 1])["text"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hybrid": [1.0]}, r"hybrid: shape \(1,\), must be \(2,\) as target"),
        ({"bradley_terry": [0.0, np.nan]}, r"bradley_terry\[1\]=nan: must be finite"),
        ({"target": [1.0, 2.0]}, r"target\[1\]=2.0: must be in \[0, 1\]"),
        ({"weight": [-1.0, 1.0]}, r"weight\[0\]=-1.0: must be finite and at least 0"),
        ({"weight": [0.0, 0.0]}, "weight: all are 0"),
        ({"target": [], "hybrid": [], "bradley_terry": [], "groups": []}, "at least one comparison"),
        ({"replicates": 0}, "replicates=0: must be at least 1"),
        ({"refit": lambda rng: ([0.0], [0.0], [1.0])}, r"refit: returned \(1,\), \(1,\), \(1,\); must be \(2,\) each"),
    ],
)
def test_a_wrong_argument_is_named(changes, message):
    arguments = {"hybrid": [1.0, 1.0], "bradley_terry": [0.0, 0.0], "target": [1.0, 1.0], "groups": [0, 1]} | changes
    first = [arguments.pop(name) for name in ("hybrid", "bradley_terry", "target", "groups")]
    with pytest.raises(ValueError, match=message):
        held_out_gain(*first, **arguments)
