"""JudgeBench: the score counts two games per pair, one in each order."""

import itertools

import numpy as np
import pytest

from gpmjax.evals.benchmarks import BENCHMARKS, run_benchmark

BENCHMARK = BENCHMARKS["judgebench"]


def row(n, label, source, **others):
    return {
        "question": "q", "response_A": "a", "response_B": "b", "label": label, "source": source, "pair_id": f"pair{n}",
    } | others  # fmt: skip


def defined(label, first, second):
    """The authors' verdict on a pair: the number of games for the label minus the number against it."""
    flip = {"A>B": "B>A", "B>A": "A>B", "A=B": "A=B"}
    decisions = [decision(first), flip[decision(second)]]
    return decisions.count(label) - decisions.count(flip[label])


def decision(score):
    return "A=B" if score == 0 else "A>B" if score > 0 else "B>A"


def test_figures_of_every_outcome_follow_the_authors_rule(rows_file, known_judge):
    """All outcomes of both games, under both labels. The second game's score is for B, which is read first."""
    cases = list(itertools.product(("A>B", "B>A"), (-1.0, 0.0, 1.0), (-1.0, 0.0, 1.0)))
    path = rows_file([row(n, label, "livecodebench") for n, (label, *_) in enumerate(cases)])
    answers = {f"{path}:{n + 1}": [[0.0, first], [second, 0.0]] for n, (_, first, second) in enumerate(cases)}
    figures = run_benchmark(BENCHMARK, known_judge(lambda group: answers[group.where]), path)
    counts = [defined(*case) for case in cases]
    assert figures["wins"] == sum(count > 0 for count in counts)
    assert figures["ties"] == sum(count == 0 for count in counts)
    assert figures["losses"] == sum(count < 0 for count in counts)
    assert figures["score"] == figures["wins"] / 18 and figures["half"] == (figures["wins"] + figures["ties"] / 2) / 18
    mean = [(first - second) * (1 if label == "A>B" else -1) for label, first, second in cases]
    assert figures["averaged"] == sum(0.5 + 0.5 * np.sign(one) for one in mean) / 18
    assert figures["consistent"] == pytest.approx(6 / 18)  # the score of A against B is the negative of B's against A


@pytest.mark.parametrize(("asked", "score"), [([[0, 3], [1, 0]], 0.0), ([[0, 3], [np.nan, 0]], 1.0), (None, 1.0)])
def test_raw_scores_of_both_orders_count_before_symmetrising(rows_file, known_judge, asked, score):
    raw = None if asked is None else np.array(asked, np.float64)
    judge = known_judge(lambda group: [[0.0, 1.0], [-1.0, 0.0]], asked=lambda group: raw)
    figures = run_benchmark(BENCHMARK, judge, rows_file([row(0, "A>B", "mmlu-pro-law")]))
    assert figures["score"] == figures["consistent"] == score and figures["averaged"] == 1.0
    assert ("order" in figures) == (score == 0.0)


def test_a_skew_judge_is_consistent(rows_file, known_judge):
    sources = [
        "mmlu-pro-law",
        "mmlu-pro-physics",
        "livebench-reasoning",
        "livebench-math",
        "livecodebench",
        "elsewhere",
    ]
    path = rows_file([row(n, "A>B" if n % 2 else "B>A", source) for n, source in enumerate(sources)])
    figures = run_benchmark(BENCHMARK, known_judge(lambda group: [[0.0, 2.0], [-2.0, 0.0]]), path)
    assert figures["consistent"] == 1.0 and figures["score"] == figures["half"] == 0.5
    assert {name: (part["rows"], part["score"]) for name, part in figures["sections"].items()} == {
        "knowledge": (2, 0.5), "reasoning": (1, 0.0), "math": (1, 1.0), "coding": (1, 0.0), "other": (1, 1.0),
    }  # fmt: skip
    low, high = figures["interval"]
    assert low < 0.5 < high and figures["absent"] == []
