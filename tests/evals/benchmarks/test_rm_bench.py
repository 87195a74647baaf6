"""RM-Bench against its definition: a 3×3 matrix of accuracies, of which the upper triangle is hard."""

import random

import pytest

from gpmjax.evals.benchmarks import BENCHMARKS, run_benchmark

BENCHMARK = BENCHMARKS["rm_bench"]


def row(domain, chosen, rejected):
    say = lambda side, rewards: [f"{side}{n} {reward}" for n, reward in enumerate(rewards)]
    return {"prompt": "p", "chosen": say("c", chosen), "rejected": say("r", rejected), "domain": domain, "id": 0}


def defined(rows):
    """Easy, normal and hard of [(chosen rewards, rejected rewards), …]."""
    cells = {(i, j): sum(c[i] > r[j] for c, r in rows) / len(rows) for i in range(3) for j in range(3)}
    mean = lambda keep: sum(share for (i, j), share in cells.items() if keep(i, j)) / sum(keep(i, j) for i, j in cells)
    return mean(lambda i, j: i > j), mean(lambda i, j: i == j), mean(lambda i, j: i < j)


def test_figures_are_the_definition(rows_file, reward_judge):
    numbers = random.Random(0)
    domains = ["chat"] * 5 + ["math"] * 4 + ["code"] * 3 + ["safety-refuse"] * 6 + ["safety-response"] * 2
    drawn = [(domain, *([numbers.randint(0, 3) for _ in range(3)] for _ in "cr")) for domain in domains]
    figures = run_benchmark(BENCHMARK, reward_judge(), rows_file([row(*one) for one in drawn]))
    expected = {
        name: defined([(c, r) for domain, c, r in drawn if domain.startswith(name)])
        for name in ("chat", "math", "code", "safety")
    }
    for name, levels in expected.items():
        section = figures["sections"][name]
        assert (section["easy"], section["normal"], section["hard"]) == pytest.approx(levels)
        assert section["score"] == pytest.approx(sum(levels) / 3)
    for n, level in enumerate(("easy", "normal", "hard")):
        assert figures[level] == pytest.approx(sum(levels[n] for levels in expected.values()) / 4)
    assert figures["score"] == pytest.approx((figures["easy"] + figures["normal"] + figures["hard"]) / 3)
    assert figures["half"] > figures["score"] and figures["absent"] == []
    # The two halves of safety are pooled, and shown apart.
    rows = {name: part["rows"] for name, part in figures["subsets"].items()}
    assert rows == {"safety-refuse": 6, "safety-response": 2} and figures["sections"]["safety"]["rows"] == 8
    low, high = figures["interval"]
    assert low < figures["score"] < high


def test_a_judge_of_style_is_good_at_easy_and_bad_at_hard(rows_file, reward_judge):
    figures = run_benchmark(BENCHMARK, reward_judge(), rows_file([row("math", (0, 1, 2), (0, 1, 2))]))
    assert (figures["easy"], figures["normal"], figures["hard"]) == (1.0, 0.0, 0.0)
    assert figures["sections"]["math"]["matrix"] == [[0, 0, 0], [1, 0, 0], [1, 1, 0]]
    assert figures["half"] == pytest.approx(0.5) and figures["absent"] == ["chat", "code", "safety"]
