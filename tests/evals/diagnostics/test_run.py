"""Diagnosis of a saved model on files: records, summaries, resumption and refusals."""

import itertools
import json

import numpy as np
import pytest

from gpmjax.config.judge import JudgeConfig
from gpmjax.data.group_files import read_groups
from gpmjax.data.grouping import merge_groups
from gpmjax.evals.diagnostics import run as module
from gpmjax.evals.diagnostics.run import DiagnosisPlan, diagnose_file, diagnose_model
from gpmjax.evals.evaluate import EvaluationPlan, evaluate
from gpmjax.evals.result_files import groups_path
from gpmjax.hub import save_preference_model
from gpmjax.judges.judge import Verdict


@pytest.fixture(scope="module")
def saved(model_and_params, chat, tmp_path_factory):
    model, params = model_and_params
    directory = tmp_path_factory.mktemp("saved") / "model"
    save_preference_model(directory, params, model.config, model.spec, chat.tokenizer)
    return str(directory)


@pytest.fixture(scope="module")
def data(pairs, write_rows):
    return write_rows(pairs)


class ToyJudge:
    """A judge with two blocks made of a response's letters; it is interrupted after ``stamina`` groups."""

    def __init__(self, stamina=None):
        self.identity, self.stamina, self.asked = {"model": "toy"}, stamina, []

    def __call__(self, groups, pairs):
        assert pairs == "all"
        self.asked.append(len(groups))
        for group in itertools.islice(groups, self.stamina):
            v = np.array([[1.0, len(text), text.count("a"), text.count("e") + 1.0] for text in group.responses])
            scores = v[:, :1] * v[:, 1] + v[:, 2:3] * v[:, 3]
            yield Verdict(scores - scores.T, 1.0, v[:, 1].astype(int), 100, embedding=v, scale=np.ones(2))
        if self.stamina is not None:
            raise KeyboardInterrupt


@pytest.fixture
def judging(monkeypatch):
    """Replaces the model by a toy judge. The tokenizer is SmolLM2's."""

    def use(judge):
        monkeypatch.setattr(module, "open_judge", lambda plan: judge)
        return judge

    use(ToyJudge())
    return use


def plan(model="smollm2", **changes):
    return DiagnosisPlan(JudgeConfig(model, max_length=128), **changes)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_all_pairs_are_judged_and_labelled_figures_are_the_evaluations(saved, data, tmp_path):
    out = tmp_path / "deep" / "diagnosis.json"
    summary = diagnose_model(plan(saved, data=data), out)
    assert json.loads(out.read_text()) == summary
    records = lines(groups_path(out))
    assert len(records) == 3 and all(len(record["scores"]) == 4 for record in records)
    assert all(None not in row for record in records for row in record["scores"])
    assert summary["diagnosis"]["triads"]["triads"] == 3 * 4
    assert summary["diagnosis"]["symmetry"]["skew_residual"]["value"] == 0
    figures = evaluate(EvaluationPlan(JudgeConfig(saved, max_length=128), data))
    for name in ("comparisons", "accuracy", "tied_labels", "longer_wins"):
        assert summary[name] == figures[name]
    for name in ("nll", "brier", "ece", "mean_margin"):
        assert summary[name] == pytest.approx(figures[name], abs=1e-4)
    cost = summary["diagnosis"]["cost"]
    assert (
        cost["formula"]["shared"] == cost["forward_tokens"] < cost["formula"]["separate"] < cost["formula"]["pairwise"]
    )
    again = diagnose_file(str(groups_path(out)), tmp_path / "again.json")
    assert {name: again[name] for name in again if name != "records"}.items() <= summary.items()


def test_an_interrupted_run_is_resumed(judging, data, tmp_path):
    out, straight = tmp_path / "diagnosis.json", tmp_path / "straight.json"
    expected = diagnose_model(plan(data=data), straight)
    breaking = judging(ToyJudge(stamina=1))
    with pytest.raises(KeyboardInterrupt):
        diagnose_model(plan(data=data), out)
    assert len(lines(groups_path(out))) == 1 and not out.exists()
    with groups_path(out).open("a") as file:
        file.write('{"half a li')
    with pytest.raises(KeyboardInterrupt):
        diagnose_model(plan(data=data), out)
    assert breaking.asked == [3, 2]
    rest = judging(ToyJudge())
    assert diagnose_model(plan(data=data), out) == expected and rest.asked == [1]
    assert groups_path(out).read_text() == groups_path(straight).read_text()


def test_other_data_in_the_same_file_start_over(judging, data, pairs, write_rows, tmp_path):
    out = tmp_path / "diagnosis.json"
    diagnose_model(plan(data=data), out)
    other = diagnose_model(plan(data=write_rows(pairs[:4])), out)
    assert other["groups"] == 1 == len(lines(groups_path(out)))


def test_ratings_are_joined_to_the_data_or_used_alone(judging, data, write_rows, tmp_path):
    groups = merge_groups(read_groups(data))
    draw = np.random.default_rng(0)
    rows = [
        {
            "prompt": group.prompt[0].content,
            "responses": list(group.responses[:3]),
            "ratings": {"wit": draw.random(3).tolist()},
        }
        for group in groups
    ]
    ratings = write_rows(rows)
    out = tmp_path / "diagnosis.json"
    joined = diagnose_model(plan(data=data, ratings=ratings), out)
    assert [record["ratings"]["wit"] for record in lines(groups_path(out))] == [
        [*row["ratings"]["wit"], None] for row in rows
    ]
    alone = diagnose_model(plan(ratings=ratings), tmp_path / "alone.json")
    assert alone["comparisons"] == 0 and alone["groups"] == 3 and alone["responses"] == 9
    both = [summary["diagnosis"]["aspects"] for summary in (joined, alone)]
    assert [found["left_out"] for found in both] == [3, 0] and both[0]["table"] == both[1]["table"]
    assert all(0 < line["p_family"] <= 1 and abs(line["spearman"]) <= 1 for line in both[0]["table"])


def test_a_prompt_with_one_response_is_left_out(judging, pairs, write_rows, tmp_path):
    same = {"prompt": "p", "chosen": "same", "rejected": "same"}
    assert diagnose_model(plan(data=write_rows([same, *pairs])), tmp_path / "a.json")["groups"] == 3
    with pytest.raises(ValueError, match="no prompt has two different responses"):
        diagnose_model(plan(data=write_rows([same])), tmp_path / "b.json")


@pytest.mark.parametrize(
    ("changes", "out", "message"),
    [
        ({"data": "no.jsonl"}, "a.json", "no.jsonl: no such file"),
        ({}, "a.json", "data: none is given"),
        ({"data": "builtin:letters"}, "a.txt", "a.txt': must end in .json"),
    ],
    ids=str,
)
def test_refusals_are_one_line(judging, tmp_path, changes, out, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as refusal:
        diagnose_model(plan(**changes), tmp_path / out)
    assert "\n" not in str(refusal.value)


def test_ratings_of_other_responses_are_refused(judging, data, write_rows, tmp_path):
    ratings = write_rows([{"prompt": "?", "responses": ["x"], "ratings": {"wit": [1]}}])
    with pytest.raises(ValueError, match="none of its prompts and responses is in"):
        diagnose_model(plan(data=data, ratings=ratings), tmp_path / "a.json")
