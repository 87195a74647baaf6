"""The length-controlled win rate: the effect of length is removed, and other effects are kept."""

import numpy as np
import pytest
import sklearn
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import make_scorer
from sklearn.model_selection import GroupKFold

from gpmjax.evals.policies.length_controlled import Anchors, length_controlled, read_difficulty

ROWS = 200


@pytest.fixture
def lengths(monkeypatch):
    """Lengths of a policy that is mostly longer than the reference. Resamples are few, since each is a fit."""
    monkeypatch.setattr("gpmjax.evals.intervals.RESAMPLES", 20)
    draw = np.random.default_rng(0)
    return draw.integers(200, 3000, ROWS), draw.integers(100, 2000, ROWS)


def term(policy, reference):
    """tanh of the standardised difference."""
    delta = reference - policy
    return np.tanh(delta / np.std(delta, ddof=1))


def test_a_judge_of_length_alone_gives_one_half(lengths):
    preferences = expit(-3 * term(*lengths))
    found = length_controlled(preferences, *lengths)
    assert 100 * preferences.mean() > 60
    assert found["win_rate"] == pytest.approx(50, abs=0.1)
    assert found["coefficients"]["length"] == pytest.approx(-3, abs=0.02)
    assert found["interval"][0] <= found["win_rate"] + 0.1 and found["win_rate"] - 0.1 <= found["interval"][1]
    assert found["formula"] == "tanh(length difference) + model" and found["anchors"] == 0


def test_effects_other_than_length_are_kept(lengths):
    found = length_controlled(expit(1.2 - 2 * term(*lengths)), *lengths)
    assert found["win_rate"] == pytest.approx(100 * expit(1.2), abs=0.2)
    flat = np.full(ROWS, 0.7)
    assert length_controlled(flat, *lengths)["win_rate"] == pytest.approx(70, abs=0.2)
    # Equal lengths have no effect of length.
    assert length_controlled(flat, lengths[0], lengths[0])["coefficients"]["length"] == 0


def test_even_preferences_give_one_half(lengths):
    found = length_controlled(np.full(ROWS, 0.5), lengths[0], lengths[0])
    assert found["win_rate"] == 50.0 and found["interval"] == [50.0, 50.0]


def test_swapping_the_sides_swaps_the_win_rates(lengths):
    verdicts = (np.random.default_rng(1).random(ROWS) < expit(0.4 - 2 * term(*lengths))).astype(float)
    there = length_controlled(verdicts, *lengths)["win_rate"]
    here = length_controlled(1 - verdicts, *lengths[::-1])["win_rate"]
    assert there + here == pytest.approx(100, abs=0.05)


def test_difficulty_is_averaged_over_instructions(lengths):
    difficulty = np.random.default_rng(2).normal(size=ROWS)
    preferences = expit(0.5 - 2 * term(*lengths) + 1.5 * difficulty)
    found = length_controlled(preferences, *lengths, difficulty)
    assert found["win_rate"] == pytest.approx(100 * expit(0.5 + 1.5 * difficulty).mean(), abs=0.2)
    assert found["coefficients"] == pytest.approx({"length": -2, "difficulty": 1.5, "model": 0.5}, abs=0.03)
    assert found["formula"] == "tanh(length difference) + instruction difficulty + model"


def test_the_fit_is_that_of_wins_and_losses_weighted_by_preference(lengths):
    """The fit agrees with a direct call of scikit-learn at the chosen strength, anchors included."""
    draw = np.random.default_rng(3)
    difficulty = draw.normal(size=ROWS)
    preferences = (draw.random(ROWS) < expit(0.5 - 2 * term(*lengths) + difficulty)).astype(float)
    anchors = Anchors(draw.normal(size=40), draw.normal(size=40), draw.random(40))
    found = length_controlled(preferences, *lengths, difficulty, anchors)
    own = np.stack([term(*lengths), difficulty, np.ones(ROWS)], axis=1)
    added = np.stack([np.tanh(anchors.length), anchors.difficulty, np.zeros(40)], axis=1)
    features, weights = np.concatenate([own, added]), np.concatenate([np.ones(ROWS), np.full(40, 0.1)])
    shares = np.concatenate([preferences, anchors.preference])
    model = LogisticRegression(
        C=found["strength"], l1_ratio=1.0, solver="liblinear", fit_intercept=False, tol=1e-8, max_iter=5000
    )
    model.fit(
        np.tile(features, (2, 1)),
        np.repeat([1, 0], len(features)),
        np.concatenate([shares * weights, (1 - shares) * weights]),
    )
    assert list(found["coefficients"].values()) == pytest.approx(model.coef_[0].tolist(), abs=2e-3)
    assert found["anchors"] == 40
    assert found["coefficients"] != length_controlled(preferences, *lengths, difficulty)["coefficients"]


def cross_validated(features, preferences):
    """(C, coefficients) of scikit-learn's search, called as in AlpacaEval: each row is a win and a loss of one fold."""

    def score(y, p, share):
        share = np.where(y == 1, share, 1 - share)
        return np.mean(share * np.log(p) + (1 - share) * np.log(1 - p))

    share, rows = np.concatenate([preferences, 1 - preferences]), np.tile(np.arange(len(features)), 2)
    with sklearn.config_context(enable_metadata_routing=True):
        scoring = make_scorer(score, response_method="predict_proba").set_score_request(share=True)
        model = LogisticRegressionCV(
            cv=GroupKFold(5), scoring=scoring, random_state=123, l1_ratios=(1.0,), solver="liblinear",
            fit_intercept=False, use_legacy_attributes=False,
        ).set_fit_request(sample_weight=True)  # fmt: skip
        labels = np.repeat([1, 0], len(features))
        model.fit(np.tile(features, (2, 1)), labels, sample_weight=share, groups=rows, share=share)
    return float(model.C_), model.coef_[0].tolist()


@pytest.mark.parametrize(
    "seed", [0, 1, 4, 5, 6]
)  # losses of large C's are nearly equal, so the end of each fit decides
def test_cross_validation_chooses_the_strength_of_scikit_learns_search(seed, monkeypatch):
    monkeypatch.setattr("gpmjax.evals.intervals.RESAMPLES", 2)
    draw = np.random.default_rng(seed)
    policy, reference = draw.integers(200, 3000, 120), draw.integers(100, 2000, 120)
    difficulty = draw.normal(size=120)
    preferences = expit(0.5 - 2 * term(policy, reference) + difficulty + draw.normal(0, 0.3, 120))
    found = length_controlled(preferences, policy, reference, difficulty)
    features = np.stack([term(policy, reference), difficulty, np.ones(120)], axis=1)
    assert (found["strength"], list(found["coefficients"].values())) == cross_validated(features, preferences)
    predicted = 100 * expit(features[:, 1:] @ list(found["coefficients"].values())[1:])
    assert found["standard_error"] == pytest.approx(predicted.std(ddof=1) / np.sqrt(120))


def test_a_missing_preference_is_left_out_of_the_fit(lengths):
    preferences = expit(1 - 2 * term(*lengths))
    some = np.where(np.arange(ROWS) % 4 == 0, np.nan, preferences)
    assert length_controlled(some, *lengths)["win_rate"] == pytest.approx(100 * expit(1), abs=0.2)


def test_a_policy_that_always_wins_prints_no_warning(lengths, capfd):
    found = length_controlled(np.ones(ROWS), *lengths)
    assert found["win_rate"] > 99 and capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preferences": [1.0] * 9 + [np.nan] * 191}, "9 preferences: the length-controlled model needs at least 10"),
        ({"preferences": [2.0] * ROWS}, r"preferences: must be in \[0, 1\], or NaN"),
        ({"preferences": [0.5] * 11}, r"columns of \[11, 200, 200\] rows"),
        ({"anchors": Anchors(*[np.zeros(2)] * 3)}, "anchors need difficulty"),
    ],
    ids=["few", "outside", "unequal", "anchors"],
)
def test_bad_input_is_refused(lengths, change, message):
    given = {"preferences": [0.5] * ROWS, "lengths": lengths[0], "reference_lengths": lengths[1]} | change
    with pytest.raises(ValueError, match=message):
        length_controlled(**given)


def test_alpaca_evals_file_of_difficulties_is_read(tmp_path):
    path = tmp_path / "df_gamed.csv"
    path.write_text(
        "index,preference,std_delta_len,instruction_difficulty,model\n0,0.4,1.5,-1.0,a\n1,0.6,-2,0.5,a\n0,0.3,1,-1.0,b\n"
    )
    read = read_difficulty(str(path))
    assert read.of([1, 0]).tolist() == [0.5, -1.0]
    assert read.anchors.length.tolist() == [1.5, -2, 1] and read.anchors.preference.tolist() == [0.4, 0.6, 0.3]
    with pytest.raises(ValueError, match="df_gamed.csv: no row of index 7; 1 of 2 instructions have none"):
        read.of([0, 7])
    path.write_text("index,instruction_difficulty\n0,0.25\n")
    assert read_difficulty(str(path)).anchors is None
    path.write_text("index,difficulty\n0,0.25\n")
    with pytest.raises(
        ValueError, match="df_gamed.csv:2: field 'instruction_difficulty': missing; there is index, difficulty"
    ):
        read_difficulty(str(path))


def test_the_logit_of_the_win_rate_is_the_models_coefficient(lengths):
    found = length_controlled(expit(0.8 - 2 * term(*lengths)), *lengths)
    assert logit(found["win_rate"] / 100) == pytest.approx(found["coefficients"]["model"])
