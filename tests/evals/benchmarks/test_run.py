"""Benchmark runs: files, resumption, summaries and tables."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from gpmjax.evals.benchmarks import BENCHMARKS, run_benchmark
from gpmjax.judges.embedding import EmbeddingJudge
from gpmjax.judges.forward import make_scorer
from gpmjax.judges.readout import PackedReader
from gpmjax.reports.terminal_tables.benchmark import benchmark_table
from gpmjax.sharding import make_mesh

RB2 = BENCHMARKS["rewardbench2"]
FIELDS = ["prompt", "chosen", "rejected", "subset", "id"]


def four(n):
    texts = [f"{k} {(k * n) % 7}" for k in range(4)]
    return {"prompt": f"p {n}", "chosen": texts[:1], "rejected": texts[1:], "subset": "Math", "id": str(n)}


@pytest.fixture
def path(rows_file):
    return rows_file([four(n) for n in range(6)])


def test_an_interrupted_run_is_resumed_and_ends_like_an_uninterrupted_one(path, reward_judge, tmp_path):
    straight = run_benchmark(RB2, reward_judge(), path, tmp_path / "straight.json")
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(RB2, reward_judge(stop_after=4), path, tmp_path / "rb2.json")
    assert not (tmp_path / "rb2.json").exists()
    rest = reward_judge()
    assert run_benchmark(RB2, rest, path, tmp_path / "rb2.json") == straight
    assert [where for where, _ in rest.asked] == [f"{path}:5", f"{path}:6"]
    for kind in ("json", "groups.jsonl", "rewardbench.json", "rewardbench.scores.jsonl"):
        assert (tmp_path / f"rb2.{kind}").read_text() == (tmp_path / f"straight.{kind}").read_text()


def test_another_aggregation_uses_the_same_records(path, reward_judge, tmp_path):
    run_benchmark(RB2, reward_judge(), path, tmp_path / "rb2.json")
    again = reward_judge()
    summary = run_benchmark(RB2, again, path, tmp_path / "rb2.json", aggregation="copeland")
    assert again.asked == [] and summary["aggregation"] == "copeland"
    assert json.loads((tmp_path / "rb2.json").read_text()) == summary


def test_another_judge_or_other_rows_start_over(path, rows_file, reward_judge, tmp_path):
    run_benchmark(RB2, reward_judge(), path, tmp_path / "rb2.json")
    other = reward_judge(max_length=65)
    run_benchmark(RB2, other, path, tmp_path / "rb2.json")
    assert len(other.asked) == 6
    changed = rows_file([four(n) for n in range(5)] + [four(9)])
    assert changed == path
    again = reward_judge(max_length=65)
    run_benchmark(RB2, again, path, tmp_path / "rb2.json")
    assert len(again.asked) == 6


def test_a_summary_names_its_settings_and_malformed_rows(rows_file, reward_judge):
    bad = [{"prompt": "p"} for _ in range(105)]
    long = {"prompt": "p", "chosen": ["a b c d e f 1"], "rejected": ["0"] * 3, "subset": "Math"}
    path = rows_file([*bad, four(1), long])
    summary = run_benchmark(RB2, reward_judge(), path)
    assert summary["max_length"] == 64 and summary["model"] == "known" and summary["judge"]["template"] == "chat"
    rows = summary["rows"]
    assert (rows["read"], rows["judged"], rows["truncated"], rows["malformed"]) == (107, 2, 1, 105)
    assert len(rows["malformed_at"]) == 100
    assert rows["malformed_at"][0] == {"where": f"{path}:1", "reason": "field 'subset': missing; there is prompt"}
    assert summary["forward_tokens"] == 8 + 10 and json.loads(json.dumps(summary)) == summary


def test_a_summary_must_be_json(path, reward_judge):
    with pytest.raises(ValueError, match=r"out='rb2.txt': must end in .json"):
        run_benchmark(RB2, reward_judge(), path, "rb2.txt")


def test_a_required_pair_must_be_judged_in_both_orders(path, rows_file, known_judge):
    scores = np.zeros((4, 4))
    scores[2, 3] = np.nan  # no label needs this pair
    with pytest.raises(ValueError, match=r":1: the judge has no verdict on response 2 against response 3; all"):
        run_benchmark(RB2, known_judge(lambda group: scores), path)
    cyclic = rows_file([{"prompt": "p", "responses": ["a", "b", "c"], "prefer": [[0, 1]]}], "cyclic.jsonl")
    nan = np.nan
    labelled = known_judge(lambda group: [[nan, 1, nan], [1, nan, nan], [nan, nan, nan]])
    assert run_benchmark(BENCHMARKS["cyclic"], labelled, cyclic)["score"] == 0.5
    one_order = known_judge(lambda group: [[0, 1, 1], [nan, 0, 1], [1, 1, 0]])
    with pytest.raises(ValueError, match=r":1: the judge has no verdict on response 1 against response 0; labelled"):
        run_benchmark(BENCHMARKS["cyclic"], one_order, cyclic)


ROWS = {
    "rewardbench": [dict(zip(FIELDS, ("p", "a b", "c", "hep-go", 1), strict=True))],
    "rewardbench2": [four(3), *({**four(1), "subset": "Ties", "id": "ref:1"} for _ in "1")],
    "rm_bench": [{"prompt": "p", "chosen": ["a", "b", "c"], "rejected": ["d", "e", "f"], "domain": "safety-refuse"}],
    "judgebench": [{"question": "q", "response_A": "a", "response_B": "b", "label": "A>B", "source": "livecodebench"}],
    "cyclic": [{"prompt": "p", "responses": ["a", "b", "c"], "prefer": [[0, 1], [1, 2], [2, 0]]}],
}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_model_on_every_benchmark(model_and_params, chat, rows_file, tmp_path, name):
    judge = EmbeddingJudge(PackedReader(make_scorer(*model_and_params, make_mesh())), chat, {"max_length": 128}, 128)
    path = rows_file([*ROWS[name], {"nothing": "[red]"}])
    summary = run_benchmark(BENCHMARKS[name], judge, path, tmp_path / "out.json")
    assert 0 <= summary["score"] <= 1 and summary["rows"]["judged"] == len(ROWS[name]) and summary["max_length"] == 128
    assert len((tmp_path / "out.groups.jsonl").read_text().splitlines()) == len(ROWS[name])
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(benchmark_table(BENCHMARKS[name], summary, title="a model"))
    text = console.export_text()
    assert f"{100 * summary['score']:.1f}" in text and f"{path}:{len(ROWS[name]) + 1}: field " in text
    for part in (*summary["sections"], *summary["subsets"]):
        assert part in text
