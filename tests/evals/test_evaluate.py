"""A saved model on a file, start to end."""

import json
import math

import pytest

from gpmjax.evals import evaluate as module
from gpmjax.evals.evaluate import EvaluationPlan, evaluate
from gpmjax.evals.preference import summarise_rows
from gpmjax.evals.report import rows_path
from gpmjax.hub import save_preference_model


@pytest.fixture(scope="module")
def saved(model_and_params, chat, tmp_path_factory):
    model, params = model_and_params
    directory = tmp_path_factory.mktemp("saved") / "model"
    save_preference_model(directory, params, model.config, model.spec, chat.tokenizer)
    return str(directory)


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_summary_and_rows_agree(saved, pairs, write_rows, tmp_path):
    data = write_rows([*pairs, {"prompt": "p", "chosen": "same", "rejected": "same"}])
    out = tmp_path / "sub" / "dev.json"
    summary = evaluate(EvaluationPlan(saved, data, max_length=128, rows_per_batch=3), out)
    assert json.loads(out.read_text()) == summary
    assert summary["max_length"] == 128 and summary["comparisons"] == len(pairs) and summary["tied_labels"] == 3
    assert summary["rows"]["dropped_at"] == [f"{data}:{len(pairs) + 1}"] and summary["rows"]["read"] == len(pairs) + 1
    records = read_lines(rows_path(out))
    assert sorted(record["source"] for record in records) == sorted(f"{data}:{n + 1}" for n in range(len(pairs)))
    assert all(0 < record["probability"] < 1 and math.isfinite(record["score"]) for record in records)
    again = summarise_rows(records, summary["tau"])
    assert {name: summary[name] for name in again} == again


def test_an_interruption_keeps_the_rows_computed_so_far(saved, pairs, write_rows, tmp_path, monkeypatch):
    real = module.make_scorer

    def interrupted(*args):
        scorer, calls = real(*args), []

        def score(batch):
            calls.append(batch)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return scorer(batch)

        return score

    monkeypatch.setattr(module, "make_scorer", interrupted)
    # Eight rows a batch is the least on eight devices; 30 prompts make four batches.
    rows = [pair | {"prompt": f"{n} {pair['prompt']}"} for n in range(10) for pair in pairs]
    out = tmp_path / "dev.json"
    with pytest.raises(KeyboardInterrupt):
        evaluate(EvaluationPlan(saved, write_rows(rows), max_length=128, rows_per_batch=1), out)
    assert not out.exists()
    assert len(read_lines(rows_path(out))) >= 8


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "no/such/place"}, "no/such/place"),
        ({"data": "no_such.jsonl"}, "no_such.jsonl: no such file"),
        ({"template": "jinja"}, "template='jinja': must be one of"),
        ({"dtype": "float8"}, "dtype"),
        ({"max_length": 1}, "max_length=1: must be at least 2"),
        ({"declare": {"gate": "sigmoid"}}, "gate"),
    ],
    ids=str,
)
def test_refusals_are_one_line(saved, pairs, write_rows, changes, words):
    plan = {"model": saved, "data": write_rows(pairs), "max_length": 128} | changes
    with pytest.raises((ValueError, FileNotFoundError), match=words) as refusal:
        evaluate(EvaluationPlan(**plan))
    assert "\n" not in str(refusal.value)


def test_the_summary_file_is_asked_to_be_json(saved):
    with pytest.raises(ValueError, match="out='dev.txt': must end in .json"):
        evaluate(EvaluationPlan(saved, "x.jsonl"), "dev.txt")
