"""A saved model on a file, start to end."""

import dataclasses
import functools
import json
import math

import jax
import numpy as np
import pytest

from gpmjax.config.judge import JudgeConfig
from gpmjax.evals import evaluate as module
from gpmjax.evals.comparisons import summarise_rows
from gpmjax.evals.evaluate import EvaluationPlan, evaluate
from gpmjax.evals.result_files import rows_path
from gpmjax.hub import save_preference_model
from gpmjax.judges import feature_reader, readout
from gpmjax.judges.open import open_model


@pytest.fixture(scope="module")
def saved(model_and_params, chat, tmp_path_factory):
    model, params = model_and_params
    directory = tmp_path_factory.mktemp("saved") / "model"
    save_preference_model(directory, params, model.config, model.spec, chat.tokenizer)
    return str(directory)


def plan(model, data, **changes):
    return EvaluationPlan(JudgeConfig(model, **({"max_length": 128} | changes)), data)


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_summary_and_rows_agree(saved, pairs, write_rows, tmp_path):
    data = write_rows([*pairs, {"prompt": "p", "chosen": "same", "rejected": "same"}])
    out = tmp_path / "sub" / "dev.json"
    summary = evaluate(plan(saved, data, rows=3), out)
    assert json.loads(out.read_text()) == summary
    assert summary["max_length"] == 128 and summary["comparisons"] == len(pairs) and summary["tied_labels"] == 3
    assert summary["rows"]["dropped_at"] == [f"{data}:{len(pairs) + 1}"] and summary["rows"]["read"] == len(pairs) + 1
    records = read_lines(rows_path(out))
    assert sorted(record["source"] for record in records) == sorted(f"{data}:{n + 1}" for n in range(len(pairs)))
    assert all(0 < record["probability"] < 1 and math.isfinite(record["score"]) for record in records)
    again = summarise_rows(records, summary["tau"])
    assert {name: summary[name] for name in again} == again


def test_how_attention_is_computed_changes_no_figure(saved, pairs, write_rows):
    data = write_rows(pairs)
    plain, blockwise = (evaluate(plan(saved, data, attention=name)) for name in ("xla", "blockwise"))
    assert plain["accuracy"] == blockwise["accuracy"] and plain["nll"] == pytest.approx(blockwise["nll"], abs=1e-5)


def test_models_on_one_backbone_share_its_features(
    saved, pairs, write_rows, tmp_path, monkeypatch, model_and_params, chat
):
    """The second model reads nothing but its heads, and no figure moves; another backbone finds nothing of theirs."""
    model, params = model_and_params
    data, cache = write_rows(pairs), str(tmp_path / "features")
    read = []
    whole = feature_reader.packed_outputs
    monkeypatch.setattr(
        feature_reader,
        "packed_outputs",
        lambda scorer, groups, rows: read.extend(groups) or whole(scorer, groups, rows),
    )
    plain, cached = evaluate(plan(saved, data)), evaluate(plan(saved, data, feature_cache=cache))
    texts = {(row["prompt"], row[side]) for row in pairs for side in ("chosen", "rejected")}
    assert sum(len(group.responses) for group in read) == len(texts)
    assert cached["accuracy"] == plain["accuracy"] and cached["nll"] == pytest.approx(plain["nll"], abs=1e-5)
    read.clear()
    turned = (
        jax.tree.map(lambda leaf: -leaf, params["heads"]) | {"gate": params["heads"]["gate"]}
        if "gate" in params["heads"]
        else {"value": jax.tree.map(lambda leaf: -leaf, params["heads"]["value"])}
    )
    other = str(tmp_path / "other")
    save_preference_model(other, params | {"heads": turned}, model.config, model.spec, chat.tokenizer)
    figures = evaluate(plan(other, data, feature_cache=cache))
    assert not read
    assert figures["nll"] == pytest.approx(evaluate(plan(other, data))["nll"], abs=1e-5)
    moved = jax.tree.map(lambda leaf: leaf * np.float32(1.01), params["decoder"])
    save_preference_model(
        str(tmp_path / "moved"), params | {"decoder": moved}, model.config, model.spec, chat.tokenizer
    )
    evaluate(plan(str(tmp_path / "moved"), data, feature_cache=cache))
    assert sum(len(group.responses) for group in read) == len(texts)


def test_progress_is_said_in_plain_lines_where_there_is_no_terminal(saved, pairs, write_rows, capsys):
    evaluate(plan(saved, write_rows(pairs)))
    assert [line.split("  ")[0] for line in capsys.readouterr().err.splitlines() if "judging" in line] == [
        "judging 0/3",
        "judging 3/3",
    ]


def test_an_interrupted_evaluation_goes_on(saved, pairs, write_rows, tmp_path, monkeypatch):
    scored = []

    def opened(judge, interrupt):
        model = open_model(judge)

        def scorer(batch):
            scored.append(batch)
            if interrupt and len(scored) == 3:
                raise KeyboardInterrupt
            return model.scorer(batch)

        return dataclasses.replace(model, scorer=scorer)

    # Eight rows a batch is the least on eight devices; 30 prompts make four batches.
    rows = [pair | {"prompt": f"{n} {pair['prompt']}"} for n in range(10) for pair in pairs]
    planned = plan(saved, write_rows(rows), rows=1)
    out = tmp_path / "dev.json"
    monkeypatch.setattr(readout, "CHUNK", 8)
    monkeypatch.setattr(module, "open_model", functools.partial(opened, interrupt=True))
    with pytest.raises(KeyboardInterrupt):
        evaluate(planned, out)
    kept = read_lines(rows_path(out))
    assert not out.exists() and 8 <= len(kept) < len(rows)
    monkeypatch.setattr(module, "open_model", functools.partial(opened, interrupt=False))
    scored.clear()
    summary = evaluate(planned, out)
    assert read_lines(rows_path(out))[: len(kept)] == kept
    assert sorted(record["row"] for record in read_lines(rows_path(out))) == list(range(len(rows)))
    steps = len(scored)
    assert evaluate(planned, out) == summary and len(scored) == steps  # nothing is left to do
    whole = evaluate(planned, tmp_path / "whole.json")
    assert {name: whole[name] for name in ("accuracy", "wins", "comparisons")} == {
        name: summary[name] for name in ("accuracy", "wins", "comparisons")
    }
    assert whole["nll"] == pytest.approx(summary["nll"], abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "no/such/place"}, "no/such/place"),
        ({"data": "no_such.jsonl"}, "no_such.jsonl: no such file"),
        ({"template": "jinja"}, "template is 'jinja'; allowed: 'chat'"),
        ({"dtype": "float8"}, "dtype"),
        ({"max_length": 1}, "max_length=1: must be at least 2"),
        ({"gate": "sigmoid"}, "gate"),
    ],
    ids=str,
)
def test_refusals_are_one_line(saved, pairs, write_rows, changes, words):
    fields = {"model": saved, "data": write_rows(pairs)} | changes
    with pytest.raises((ValueError, FileNotFoundError), match=words) as refusal:
        evaluate(plan(**fields))
    assert "\n" not in str(refusal.value)


def test_the_summary_file_is_asked_to_be_json(saved):
    with pytest.raises(ValueError, match="out='dev.txt': must end in .json"):
        evaluate(plan(saved, "x.jsonl"), "dev.txt")
