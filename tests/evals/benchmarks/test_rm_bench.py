"""RM-Bench: agreement with its definition by a 3×3 matrix of accuracies, whose upper triangle is hard."""

import json
import random

import numpy as np
import pytest

from gpmjax.evals.benchmarks import BENCHMARKS, run_benchmark

BENCHMARK = BENCHMARKS["rm_bench"]


def row(domain, chosen, rejected):
    sides = {
        "chosen": [f"c{n} {r}" for n, r in enumerate(chosen)],
        "rejected": [f"r{n} {r}" for n, r in enumerate(rejected)],
    }
    return {"prompt": "p", **sides, "domain": domain, "id": 0}


def defined(rows):
    """Easy, normal and hard accuracies of [(chosen rewards, rejected rewards), …]."""
    cells = {(i, j): sum(c[i] > r[j] for c, r in rows) / len(rows) for i in range(3) for j in range(3)}
    return [sum(share for (i, j), share in cells.items() if np.sign(i - j) == level) / 3 for level in (1, 0, -1)]


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
    # The two domains of safety are pooled in the section, and are subsets of their own.
    rows = {name: part["rows"] for name, part in figures["subsets"].items()}
    assert rows == {"safety-refuse": 6, "safety-response": 2} and figures["sections"]["safety"]["rows"] == 8
    low, high = figures["interval"]
    assert low < figures["score"] < high


def test_a_judge_of_style_is_right_on_easy_and_wrong_on_hard(rows_file, reward_judge):
    figures = run_benchmark(BENCHMARK, reward_judge(), rows_file([row("math", (0, 1, 2), (0, 1, 2))]))
    assert (figures["easy"], figures["normal"], figures["hard"]) == (1.0, 0.0, 0.0)
    assert figures["sections"]["math"]["matrix"] == [[0, 0, 0], [1, 0, 0], [1, 1, 0]]
    assert figures["half"] == pytest.approx(0.5) and figures["absent"] == ["chat", "code", "safety"]


def test_the_domain_of_the_authors_files_is_taken_from_their_names(reward_judge, tmp_path):
    """Each domain's file has no domain column, and the file of all rows beside them is not read."""
    rewards = {
        "chat": (2, 1, 0),
        "code": (0, 0, 0),
        "math": (1, 2, 3),
        "safety-refuse": (0, 2, 0),
        "safety-response": (3, 3, 3),
    }
    rows = {name: [row(name, (1, 1, 1), rejected)] * (1 + n) for n, (name, rejected) in enumerate(rewards.items())}
    whole = tmp_path / "total_dataset.json"
    whole.write_text(json.dumps([each for several in rows.values() for each in several]))
    expected = run_benchmark(BENCHMARK, reward_judge(), str(whole))
    folder = tmp_path / "RM-Bench"
    folder.mkdir()
    for name, several in rows.items():
        bare = [{column: value for column, value in each.items() if column != "domain"} for each in several]
        (folder / f"{name}_filtered.json").write_text(json.dumps(bare))
    whole.rename(folder / whole.name)
    figures = run_benchmark(BENCHMARK, reward_judge(), str(folder))
    same = ("score", "sections", "subsets", "easy", "normal", "hard", "absent")
    assert {name: figures[name] for name in same} == {name: expected[name] for name in same}
    assert figures["rows"]["judged"] == 15
    (alone,) = run_benchmark(BENCHMARK, reward_judge(), str(folder / "safety-refuse_filtered.json"))["subsets"]
    assert alone == "safety-refuse"
    (folder / "chatter.json").write_text(json.dumps([{"prompt": "p", "chosen": ["a"] * 3, "rejected": ["b"] * 3}]))
    with pytest.raises(ValueError, match="chatter.json.*domain"):
        run_benchmark(BENCHMARK, reward_judge(), str(folder / "chatter.json"))
