"""Intervals over prompts have their stated coverage where intervals over comparisons do not."""

import numpy as np
import pytest
from scipy import special, stats

from gpmjax.data.groups import Group, Message, user
from gpmjax.evals.intervals import mean_interval, prompt_name, share_interval, wilson_interval
from gpmjax.evals.metrics import comparison_figures


def drawn(rng, prompts, each, spread, centre=1.2):
    """Comparisons that are right with a probability that depends on their prompt, and the prompt of each."""
    chance = special.expit(centre + spread * rng.normal(size=prompts))
    right = rng.random((prompts, each)) < chance[:, None]
    return right.ravel().astype(float), np.repeat(np.arange(prompts), each)


def coverage(truth, intervals):
    return np.mean([interval[0] <= truth <= interval[1] for interval in intervals])


@pytest.mark.parametrize(("prompts", "each"), [(8, 200), (40, 20), (200, 3)])
def test_intervals_cover_the_truth_where_comparisons_are_clustered(prompts, each):
    rng = np.random.default_rng(0)
    truth = special.expit(1.2 + np.random.default_rng(1).normal(size=200_000)).mean()
    sets = [drawn(rng, prompts, each, spread=1.0) for _ in range(400)]
    assert 0.92 <= coverage(truth, [share_interval(*one) for one in sets]) <= 0.985
    assert 0.92 <= coverage(truth, [mean_interval(*one) for one in sets]) <= 0.985
    if each >= 20:
        assert coverage(truth, [wilson_interval(right.sum(), len(right)) for right, _ in sets]) < 0.75


def test_intervals_of_independent_comparisons_are_hardly_wider():
    rng = np.random.default_rng(0)
    right, prompts = drawn(rng, 100, 10, spread=0.0)
    over_prompts, plain = share_interval(right, prompts), wilson_interval(right.sum(), 1000)
    assert 0.9 < (over_prompts.high - over_prompts.low) / (plain[1] - plain[0]) < 1.25
    one_each = share_interval(right, range(1000))
    assert one_each.ends == list(plain) and (one_each.over, one_each.prompts) == ("prompts", 1000)


def test_the_interval_of_a_mean_is_the_ratio_estimators_with_students_quantile():
    values, prompts = np.array([1.0, 2.0, 5.0, 4.0, 0.0]), list("aabbc")
    deviation = np.array([1 + 2 - 2 * 2.4, 5 + 4 - 2 * 2.4, 0 - 2.4])
    half = stats.t(2).ppf(0.975) * np.sqrt(3 / 2 * np.sum(deviation**2)) / 5
    assert mean_interval(values, prompts)[:2] == pytest.approx((2.4 - half, 2.4 + half))
    single = mean_interval(values, range(5))  # one comparison per prompt: Student's interval of a mean
    assert single[:2] == pytest.approx(stats.t.interval(0.95, 4, 2.4, stats.sem(values)))


def test_an_accuracy_of_one_is_not_certain_and_each_prompt_counts_once():
    sure = share_interval([1.0] * 60, np.repeat(range(12), 5))
    assert sure.high == 1.0 and sure.low == pytest.approx(12 / (12 + stats.t(11).ppf(0.975) ** 2))
    assert share_interval([0.0] * 60, np.repeat(range(12), 5)).high == pytest.approx(1 - sure.low)
    # A single wrong comparison does not show how errors cluster either.
    assert share_interval([0.0] + [1.0] * 59, np.repeat(range(12), 5)).low < sure.low
    # Where all prompts are equal (such as cycles, of which a scalar gets two in three) the interval is not narrower
    # than that of independent comparisons.
    alike = share_interval([1.0, 1.0, 0.0] * 30, np.repeat(range(30), 3))
    plain = wilson_interval(60, 90)
    assert alike.low <= plain[0] and plain[1] <= alike.high


def test_a_single_prompt_has_an_interval_over_comparisons():
    found = share_interval([1.0, 0.0, 1.0, 1.0], ["only"] * 4)
    assert found.ends == list(wilson_interval(3, 4)) and (found.over, found.prompts) == ("comparisons", 1)
    assert share_interval([1.0, 0.0]).over == "comparisons"  # prompts are not known
    assert mean_interval([1.0, 3.0], ["p", "p"]).over == "comparisons"
    assert mean_interval([1.0], ["p"]) is None
    with pytest.raises(ValueError, match="prompts: 1 entries for 2 comparisons"):
        share_interval([1.0, 0.0], ["p"])
    with pytest.raises(ValueError, match="there is no comparison"):
        mean_interval([], [])


def test_the_independent_unit_is_the_tag_group_where_there_is_one():
    assert prompt_name(Group(user("a"), ("x",), (), {"group": "pro"})) == prompt_name(
        Group(user("b"), ("y",), (), {"group": "pro"})
    )
    assert prompt_name(Group(user("a"), ("x",))) == prompt_name(Group(user("a"), ("y",), (), {"subset": "s"}))
    assert prompt_name(Group(user("a"), ("x",))) != prompt_name(Group((Message("system", "s"), *user("a")), ("x",)))


def test_summaries_name_the_unit_of_their_intervals():
    score = [1.0, 1.0, -1.0, 2.0, 0.0, 1.0]
    prompts, tags = list("aabbcc"), [{"group": "g"}] * 2 + [{"group": "h"}] * 4
    figures = comparison_figures(
        score, [1.0] * 5 + [0.5], 1.0, prompts=prompts, tags=tags, lengths={"tokens": ([2] * 6, [1] * 6)}
    )
    assert (figures["prompts"], figures["interval_over"]) == (3, "prompts")
    assert figures["accuracy_interval"] == share_interval([1, 1, 0, 1, 0.5], prompts[:5]).ends
    low, high = figures["nll_interval"]
    assert low < figures["nll"] < high
    assert figures["longer_wins"]["tokens"]["interval_over"] == "prompts"
    parts = figures["by"]["group"]
    assert (parts["g"]["interval_over"], parts["g"]["prompts"], parts["h"]["interval_over"]) == (
        "comparisons",
        1,
        "prompts",
    )
    assert comparison_figures(score, [1.0] * 6, 1.0)["interval_over"] == "comparisons"
