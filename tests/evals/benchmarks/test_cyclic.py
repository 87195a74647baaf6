"""The cyclic benchmark: sets, layouts and ceilings of scalar rewards."""

import numpy as np
import pytest

from gpmjax.evals.benchmarks import BENCHMARKS, run_benchmark

BENCHMARK = BENCHMARKS["cyclic"]
ROUND = np.array([[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]])


def cycle(prompt, config, prefer=((0, 1), (1, 2), (2, 0))):
    return {"prompt": prompt, "responses": ["x 1", "y 2", "z 3"], "prefer": list(map(list, prefer)), "config": config}


def test_each_config_is_a_set_with_its_own_ceiling(rows_file, known_judge, reward_judge):
    back = ((1, 0), (2, 1), (0, 2))
    path = rows_file([cycle("p", ["a", "b", "c"]), cycle("q", ["a", "b", "c"]), cycle("p", ["b", "c", "d"], back)])
    perfect = run_benchmark(BENCHMARK, known_judge(lambda group: ROUND), path)
    assert {name: (part["rows"], part["score"]) for name, part in perfect["subsets"].items()} == {
        "a,b,c": (2, 1.0), "b,c,d": (1, 0.0),
    }  # fmt: skip
    assert perfect["score"] == 0.5 and perfect["ceiling"] == pytest.approx(2 / 3)
    scalar = run_benchmark(BENCHMARK, reward_judge(), path)["subsets"]  # 3 ≻ 2 ≻ 1
    assert scalar["a,b,c"]["score"] == pytest.approx(1 / 3) and scalar["b,c,d"]["score"] == pytest.approx(2 / 3)
    assert all(part["ceiling"] == pytest.approx(2 / 3) for part in scalar.values())


def test_the_released_layout_is_one_set(rows_file, reward_judge):
    pairs = [("x 1", "y 2"), ("y 2", "z 3"), ("z 3", "x 1"), ("z 3", "z 3")]
    path = rows_file([{"instruction": "p", "chosen": c, "reject": r, "label": 1} for c, r in pairs])
    figures = run_benchmark(BENCHMARK, reward_judge(), path)
    (part,) = figures["subsets"].values()
    assert part["rows"] == 4 and (part["wins"], part["ties"], part["losses"]) == (1, 1, 2)
    assert part["score"] == pytest.approx(1.5 / 4) and part["strict"] == 0.25
    assert part["ceiling"] == pytest.approx(2 / 4)  # a text cannot be preferred to itself


def test_a_cycle_too_long_to_solve_has_no_ceiling(rows_file, known_judge):
    n = 17
    row = {"prompt": "p", "responses": list(map(str, range(n))), "prefer": [[i, (i + 1) % n] for i in range(n)]}
    figures = run_benchmark(BENCHMARK, known_judge(lambda group: np.zeros((n, n))), rows_file([row]))
    assert figures["ceiling"] is None and figures["score"] == 0.5
