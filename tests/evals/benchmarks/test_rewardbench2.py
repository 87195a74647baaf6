"""RewardBench 2: agreement with its definition by rewards, and judges without rewards."""

import itertools
import json
import math
import random

import numpy as np
import pytest

from gpmjax.evals.benchmarks import AGGREGATIONS, BENCHMARKS, run_benchmark
from gpmjax.evals.benchmarks.aggregation import standing

BENCHMARK = BENCHMARKS["rewardbench2"]


def four(rewards, subset="Math"):
    texts = [f"{n} {reward}" for n, reward in enumerate(rewards)]
    return {"prompt": "p", "chosen": texts[:1], "rejected": texts[1:], "subset": subset, "id": "0"}


def ties(question, right, wrong):
    kind = "ref" if len(right) == 1 else "tied"
    return {
        "prompt": "p",
        "chosen": [f"r{n} {reward}" for n, reward in enumerate(right)],
        "rejected": [f"w{n} {reward}" for n, reward in enumerate(wrong)],
        "subset": "Ties",
        "id": f"{kind}:{question}",
    }


def defined_ties_score(questions):
    """The authors' score of questions, each a ref prompt and a tied prompt, given as (right rewards, wrong rewards)."""
    total = 0.0
    for (ref_right, ref_wrong), (tied_right, tied_wrong) in questions:
        ref_gap = ref_right[0] - max(ref_wrong)
        gap, spread = min(tied_right) - max(tied_wrong), max(tied_right) - min(tied_right)
        least = min(ref_gap, gap)
        margin = math.tanh(least / spread - 1) if spread else float(np.sign(least))
        total += 0.3 * (gap > 0) + 0.3 * (ref_gap > 0) + 0.2 * (gap > spread) + 0.2 * (least > spread) + 0.01 * margin
    return total / len(questions)


def whole_questions(numbers, count):
    def pick(least, most):
        return [numbers.randint(-2, 2) for _ in range(numbers.randint(least, most))]

    return [((pick(1, 1), pick(1, 4)), (pick(2, 4), pick(1, 4))) for _ in range(count)]


def ties_rows(questions):
    return [ties(n, *prompt) for n, both in enumerate(questions) for prompt in both]


def test_ties_with_integer_rewards_are_exactly_the_definition(rows_file, reward_judge):
    """Integer rewards hit every equality: gap 0, gap = spread, spread 0."""
    numbers = random.Random(0)
    for _ in range(3):
        questions = whole_questions(numbers, 30)
        figures = run_benchmark(BENCHMARK, reward_judge(), rows_file(ties_rows(questions)))
        assert figures["subsets"]["Ties"]["score"] == pytest.approx(defined_ties_score(questions), abs=1e-12)


@pytest.mark.parametrize("rule", ["mean_score", "maximal_lottery"])
def test_ties_of_bradley_terry_are_the_definition_by_both_rules_that_keep_distances(rows_file, reward_judge, rule):
    numbers = random.Random(1)
    questions = [
        (
            ([1.5], [numbers.gauss(0, 1) for _ in range(3)]),
            ([2 + numbers.gauss(0, 0.5), 2.0], [numbers.gauss(0, 1), 0.3]),
        )
        for _ in range(25)
    ]
    figures = run_benchmark(BENCHMARK, reward_judge(), rows_file(ties_rows(questions)), aggregation=rule)
    ties_figures = figures["subsets"]["Ties"]
    assert ties_figures["score"] == pytest.approx(defined_ties_score(questions), abs=1e-6)
    assert 0 < ties_figures["terms"]["preferred_hard"] < 1 and figures["aggregation"] == rule
    low, high = ties_figures["interval"]
    assert low < ties_figures["score"] < high


def test_a_ties_prompt_without_its_partner_has_an_accuracy_and_no_score(rows_file, reward_judge):
    rows = [ties(0, [1], [0]), ties(1, [2, 3], [5])]
    figures = run_benchmark(BENCHMARK, reward_judge(), rows_file(rows))["subsets"]["Ties"]
    assert figures["score"] is None and figures["interval"] is None
    assert figures["terms"] == {
        "tied_accuracy": 0.0, "ref_accuracy": 1.0, "preferred": None, "preferred_hard": None, "margin": None,
    }  # fmt: skip


@pytest.mark.parametrize("rule", AGGREGATIONS)
def test_best_of_four_of_bradley_terry_is_the_highest_reward_and_ties_share_the_first_place(
    rows_file, reward_judge, rule
):
    rewards = [(3, 1, 2, 0), (1, 3, 2, 0), (2, 2, 1, 0), (2, 2, 2, 2), (1, 2, 2, 0)]
    expected = [1, 0, 1 / 2, 1 / 4, 0]
    figures = run_benchmark(BENCHMARK, reward_judge(), rows_file([four(r) for r in rewards]), aggregation=rule)
    assert figures["subsets"]["Math"]["score"] == pytest.approx(sum(expected) / 5, abs=1e-6)
    assert figures["absent"] == ["Factuality", "Precise IF", "Safety", "Focus", "Ties"]


def test_a_reward_that_is_barely_higher_wins_alone():
    rewards = np.float32([1.0, 1.0 + 2**-20, -1000.0, 5e-7])
    scores = np.subtract.outer(rewards.astype(np.float64), rewards.astype(np.float64))
    assert standing(scores, "mean_score").best.tolist() == [0, 1, 0, 0]


def test_rules_differ_on_a_cycle(rows_file, known_judge):
    """0 ≻ 1 ≻ 2 ≻ 0, and all three ≻ 3; 0 beats 1 by a large margin."""
    cycle = np.zeros((4, 4))
    for i, j, margin in ((0, 1, 5.0), (1, 2, 1.0), (2, 0, 1.0), (0, 3, 1.0), (1, 3, 1.0), (2, 3, 1.0)):
        cycle[i, j], cycle[j, i] = margin, -margin
    share = {
        rule: run_benchmark(BENCHMARK, known_judge(lambda group: cycle), rows_file([four("abcd")]), aggregation=rule)[
            "score"
        ]
        for rule in AGGREGATIONS
    }
    # The maximal lottery of a cycle weights each response by the margin between the other two, 1 : 1 : 5.
    assert share == {
        "mean_score": 1.0,
        "copeland": pytest.approx(1 / 3),
        "maximal_lottery": pytest.approx(1 / 7, abs=1e-5),
    }


def test_position_bias_does_not_change_figures(rows_file, known_judge, reward_judge):
    path = rows_file([four((3, 1, 2, 0)), four((0, 1, 2, 3))])
    biased = known_judge(lambda group: reward_judge().matrix(group) + 10 * (1 - np.eye(4)))
    assert (
        run_benchmark(BENCHMARK, biased, path)["subsets"] == run_benchmark(BENCHMARK, reward_judge(), path)["subsets"]
    )


def test_copeland_standings_are_shares():
    for rewards in itertools.permutations(range(3)):
        points, unit = standing(np.subtract.outer(rewards, rewards), "copeland")[1:]
        assert (points / unit).tolist() == [reward - 1 for reward in rewards]


def test_score_is_the_mean_of_subsets(rows_file, reward_judge, tmp_path):
    rows = [
        four((1, 0, 0, 0)),
        four((0, 1, 0, 0)),
        four((1, 0, 0, 0), "Focus"),
        *ties_rows([(([3], [0]), ([3, 2], [0]))]),
    ]
    figures = run_benchmark(BENCHMARK, reward_judge(), rows_file(rows), tmp_path / "rb2.json")
    tied = 1 + 0.01 * math.tanh(1.0)
    assert figures["score"] == pytest.approx((0.5 + 1 + tied) / 3)
    results = json.loads((tmp_path / "rb2.rewardbench.json").read_text())
    assert results["Math"] == 0.5 and results["Focus"] == 1.0 and results["Ties"] == pytest.approx(tied)
    lines = [json.loads(line) for line in (tmp_path / "rb2.rewardbench.scores.jsonl").read_text().splitlines()]
    assert [line["results"] for line in lines] == [1.0, 0.0, 1.0, None, None] and lines[-1]["num_correct"] == 2
    first, second, wrong = lines[-1]["scores"]
    assert (first - second, first - wrong) == (pytest.approx(1.0), pytest.approx(3.0))
