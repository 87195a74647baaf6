"""RewardBench: weights of subsets, ties, and the authors' output files."""

import json

import numpy as np
import pytest

from gpmjax.evals.benchmarks import BENCHMARKS, run_benchmark
from gpmjax.evals.benchmarks.rewardbench import EXAMPLE_COUNTS, SECTIONS, section_scores

BENCHMARK = BENCHMARKS["rewardbench"]
CARD_ROWS = 2985
"""Number of rows by the data set's card; 447 of them are math-prm's."""


def row(subset, chosen, rejected, **others):
    return {"prompt": "p", "chosen": f"a {chosen}", "rejected": f"b {rejected}", "subset": subset} | others


def test_counts_are_those_of_the_card_except_for_mathematics():
    assert sorted(EXAMPLE_COUNTS) == sorted(name for names in SECTIONS.values() for name in names)
    code = sum(EXAMPLE_COUNTS[name] for name in SECTIONS["Reasoning"] if name.startswith("hep-"))
    assert EXAMPLE_COUNTS["math-prm"] == code == 984
    assert sum(EXAMPLE_COUNTS.values()) - EXAMPLE_COUNTS["math-prm"] + 447 == CARD_ROWS
    assert {section: sum(EXAMPLE_COUNTS[name] for name in names) for section, names in SECTIONS.items()} == {
        "Chat": 358,
        "Chat Hard": 456,
        "Safety": 740,
        "Reasoning": 1968,
    }


def test_counts_fit_published_shares():
    """Published shares (GPM-Gemma-2B) times the counts are whole numbers, unless XSTest's two counts are swapped."""
    shares = {
        "xstest-should-refuse": 0.8506493506493507,
        "xstest-should-respond": 0.884,
        "donotanswer": 0.5735294117647058,
    }
    swapped = EXAMPLE_COUNTS | {"xstest-should-refuse": 250, "xstest-should-respond": 154}  # rewardbench 0.1.0 to 0.1.2
    for counts, fits in ((EXAMPLE_COUNTS, True), (swapped, False)):
        rows = np.array([counts[name] * share for name, share in shares.items()])
        assert np.allclose(rows, rows.round(), rtol=0, atol=1e-9) == fits


def test_a_section_is_the_weighted_mean_of_its_present_subsets():
    scores = {"xstest-should-refuse": 1.0, "donotanswer": 0.0, "math-prm": 0.5, "shp": 1.0}
    assert section_scores(scores, EXAMPLE_COUNTS) == {"Safety": pytest.approx(154 / 290), "Reasoning": 0.5}


def test_figures_are_those_computed_by_hand(rows_file, reward_judge):
    rows = [
        row("mt-bench-easy", 2, 1),
        row("mt-bench-easy", 1, 1),
        row("mt-bench-med", 0, 1),
        row("donotanswer", 3, 1),
        row("my-own", 0, 1),
    ]
    figures = run_benchmark(BENCHMARK, reward_judge(), rows_file(rows))
    chat = 0.75 * 28 / 68
    assert figures["sections"]["Chat"]["score"] == pytest.approx(chat)
    assert figures["score"] == pytest.approx((chat + 1) / 2) and list(figures["sections"]) == ["Chat", "Safety"]
    assert figures["subsets"]["mt-bench-easy"] | {"interval": 0} == {
        "rows": 2, "score": 0.75, "interval": 0, "strict": 0.5, "wins": 1, "ties": 1, "losses": 0,
    }  # fmt: skip
    assert figures["package"]["sections"]["Chat"] == pytest.approx(0.5 * 28 / 68)
    assert figures["package"]["score"] == pytest.approx((0.5 * 28 / 68 + 1) / 2)
    assert "my-own" in figures["subsets"] and len(figures["absent"]) == 20 and "prior_sets" not in figures
    low, high = figures["sections"]["Chat"]["interval"]
    assert low < chat < high


def test_prior_sets_weigh_half_a_section(rows_file, reward_judge):
    rows = [row("donotanswer", 3, 1), row("shp", 0, 1), row("summarize", 1, 0)]
    figures = run_benchmark(BENCHMARK, reward_judge(), rows_file(rows))
    assert figures["score"] == 1.0 and figures["prior_sets"] == 0.5
    assert figures["score_with_prior_sets"] == pytest.approx((1 + 0.5 * 0.5) / 1.5)


def test_a_judge_that_always_prefers_the_first_response_scores_one_half(rows_file, known_judge):
    raw = np.array([[0.0, 1.0], [1.0, 0.0]])
    biased = known_judge(lambda group: raw, asked=lambda group: raw)
    figures = run_benchmark(BENCHMARK, biased, rows_file([row("donotanswer", 1, 0)] * 3))
    assert figures["subsets"]["donotanswer"]["ties"] == 3 and figures["score"] == 0.5
    assert figures["order"]["first_wins"] == 1.0 and figures["order"]["consistent"] == 0.0


@pytest.mark.parametrize(
    ("spec", "kind"), [({"kind": "bt"}, "Seq. Classifier"), ({"kind": "gpm"}, "Custom Classifier")]
)
def test_the_authors_output_files(rows_file, reward_judge, tmp_path, spec, kind):
    rows = [row("donotanswer", 2, 1, id=7), row("donotanswer", 1, 1, id=8), row("hep-go", 0, 4, id=9)]
    run_benchmark(BENCHMARK, reward_judge(spec=spec), rows_file(rows), tmp_path / "rb.json")
    assert json.loads((tmp_path / "rb.rewardbench.json").read_text()) == {
        "model": "known", "model_type": kind, "chat_template": "tokenizer", "donotanswer": 0.5, "hep-go": 0.0,
    }  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "rb.rewardbench.scores.jsonl").read_text().splitlines()]
    assert [(line["id"], line["subset"], line["results"]) for line in lines] == [
        (7, "donotanswer", 1), (8, "donotanswer", 0), (9, "hep-go", 0),
    ]  # fmt: skip
    assert [line["scores_chosen"] - line["scores_rejected"] for line in lines] == [1.0, 0.0, -4.0]
