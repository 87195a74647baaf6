"""Whole runs: every stage leaves what it says, is made once, and refuses what it cannot use."""

import copy
import dataclasses
import os
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpmjax.config.judge import ScorerConfig
from gpmjax.hub import load_decoder
from gpmjax.improve import improve as improving
from gpmjax.improve import stages, tables
from gpmjax.improve.data import Batches
from gpmjax.improve.figures import iteration_figures
from gpmjax.improve.improve import improve
from gpmjax.improve.policy_run import PolicyRun
from gpmjax.improve.signals import Scored, Signals
from gpmjax.owner import InUse, owned_directory
from gpmjax.sampling.rollout import RolloutFailed
from gpmjax.train.metrics import metric_lines


@pytest.fixture
def tree(tmp_path):
    """Files of a run that must not change once they are there, with the time they were made."""
    kinds = ("*.parquet", "*.safetensors", "figures.json")
    return lambda: {path: path.stat().st_mtime_ns for kind in kinds for path in (tmp_path / "run").rglob(kind)}


def test_a_run_leaves_everything_behind_and_repeats_nothing(config, tmp_path, tree, monkeypatch, caplog):
    run, own, source = tmp_path / "run", tmp_path / "own_scorer.py", "from toy_scorers import *\n"
    own.write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    config.scorer.function = "own_scorer:cycle"
    config.loss.halve_every = 1.0
    steps, make_step = [], improving.make_policy_step
    monkeypatch.setattr(
        improving, "make_policy_step", lambda *given, **options: steps.append(given[2]) or make_step(*given, **options)
    )
    summary = improve(config, run)
    assert [loss.beta for loss in steps] == [1.0, 2.0]
    assert summary["status"] == "finished" and summary["step"] == 2 and len(summary["iterations"]) == 2

    samples = [pq.read_table(path) for path in sorted((run / "iteration-1" / "samples").glob("*.parquet"))]
    assert [table.num_rows for table in samples] == [3, 1]  # half of 8 prompts, three a file
    assert all(table.schema.equals(tables.SAMPLES) for table in samples)
    assert samples[0].schema.metadata[b"iteration"] == b"1"
    ids = [
        set(tables.read(path, tables.SAMPLES)["prompt_id"].to_pylist()) for path in run.glob("iteration-*/samples/0*")
    ]
    assert set.union(*ids) == set(range(8))

    (scores, _) = [tables.read(path, tables.SCORES) for path in sorted((run / "iteration-1" / "scores").glob("*"))]
    scores = scores.to_pylist()
    matrix = np.array(scores[0]["scores"])
    np.testing.assert_array_equal(matrix, -matrix.T)
    np.testing.assert_allclose(scores[0]["win_rate"], (1 / (1 + np.exp(-matrix))).mean(axis=1), rtol=1e-5)

    first = metric_lines(run / "iteration-1" / "train")[0]
    # Before its first step the policy is the one that was sampled; nothing has moved.
    np.testing.assert_allclose([first["kl_k1"], first["kl_k3"], first["kl_base_k1"]], 0, atol=1e-4)
    second = metric_lines(run / "iteration-2" / "train")[0]
    np.testing.assert_allclose(second["kl_k1"], 0, atol=1e-4)
    assert abs(second["kl_base_k1"]) > 1e-3
    assert not (run / "iteration-1" / "train" / "checkpoints").exists()
    assert set(summary["iterations"][1]["judge"]) == {"prompts", "responses", "judge", "trainer", "length"}
    assert load_decoder(str(run / "iteration-2" / "policy")).keys() == {"embed", "layers", "final_norm"}

    figures = summary["iterations"][0]
    assert (figures["prompts"], figures["repeated_responses"], figures["prompts_left_out"]) == (4, 0, 0)

    before = tree()
    assert improve(config, run)["iterations"] == summary["iterations"]
    assert tree() == before
    changed = {
        "loss.beta=0.5, this config has 0.25": lambda c: setattr(c.loss, "beta", 0.25),
        "rollout.top_p=1.0, this config has 0.5": lambda c: setattr(c.rollout, "top_p", 0.5),
        "prompts.content=8 prompts, digest": lambda c: shorten(c.prompts),
        "judge.responses=2, this config has 3": lambda c: setattr(c.judge, "responses", 3),
        "judge.prompts.content=8 prompts, digest": lambda c: shorten(c.judge.prompts),
        "scorer.function=own_scorer:cycle, this config has toy_scorers:cycle": lambda c: setattr(
            c.scorer, "function", "toy_scorers:cycle"
        ),
        "scorer.content=": lambda c: own.write_text(f"{source}# changed\n", encoding="utf-8"),
    }

    def shorten(prompts):
        short = tmp_path / "short.jsonl"
        lines = Path(prompts.source).read_text(encoding="utf-8").splitlines(True)
        short.write_text("".join(lines[:7]), encoding="utf-8")
        prompts.source = str(short)

    for message, change in changed.items():
        another = copy.deepcopy(config)
        change(another)
        with pytest.raises(ValueError, match=f"was begun with {message}.*new --workdir") as refused:
            improve(another, run)
        assert "\n" not in str(refused.value)
    own.write_text(source, encoding="utf-8")

    # From before contents were recorded; and what may change.
    (run / "record.json").unlink()
    moved = tmp_path / "moved.jsonl"
    moved.write_bytes(Path(config.prompts.source).read_bytes())
    another = copy.deepcopy(config)
    another.prompts.source = str(moved)
    with pytest.raises(ValueError, match="was begun with prompts.source="):
        improve(another, run)
    caplog.clear()
    assert improve(config, run)["iterations"] == summary["iterations"]
    assert (
        "was begun by another version, which did not record policy.base, prompts.content, scorer.content, "
        in caplog.text
    )
    another.checkpoint.every, another.rollout.rows, another.log_every = 5, 4, 7
    assert improve(another, run)["iterations"] == summary["iterations"]
    another.judge.prompts.source = ""
    assert "judge" in improve(another, run)["iterations"][0]
    assert tree() == before
    with pytest.raises(ValueError, match="was begun with judge.responses"):
        another.judge.prompts.source, another.judge.responses = config.judge.prompts.source, 3
        improve(another, run)


def test_sigterm_stops_between_chunks_and_the_samples_stay(config, tmp_path, monkeypatch):
    draw = stages.LocalRollout.__call__

    def draw_and_stop(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return draw(*arguments)

    monkeypatch.setattr(stages.LocalRollout, "__call__", draw_and_stop)
    assert improve(config, tmp_path)["status"] == "interrupted"
    assert [path.name for path in (tmp_path / "iteration-1" / "samples").iterdir()] == ["00000.parquet"]


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        ("nothing", "toy_scorers:nothing: .*prompts.jsonl:1: score of responses 0 and 0 is nan; it must be finite"),
        ("lopsided", r"toy_scorers:lopsided: .*prompts.jsonl:1: s\(\d ≻ \d\) = .* scores must be skew-symmetric"),
    ],
)  # fmt: skip
def test_a_bad_scorer_is_named_and_the_samples_stay(config, tmp_path, monkeypatch, scorer, message):
    _sample_nothing(monkeypatch)
    config.scorer.function = f"toy_scorers:{scorer}"
    with pytest.raises(ValueError, match=message) as refused:
        improve(config, tmp_path)
    assert "\n" not in str(refused.value)
    assert len(list((tmp_path / "iteration-1" / "samples").iterdir())) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(function="toy_scorers:absent"), "toy_scorers:absent.*cannot be imported"),
        (dict(function="", model="/nowhere"), "/nowhere: no model"),
    ],
)
@pytest.mark.parametrize("section", ["scorer", "judge.scorer"])
def test_a_scorer_that_is_not_there_is_named_before_anything_is_sampled(config, tmp_path, section, change, message):
    bad = dataclasses.replace(config.scorer, **change)
    if section == "scorer":
        config.scorer = bad
    else:
        config.judge.prompts, config.judge.scorer = config.prompts, bad
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        improve(config, tmp_path)
    assert not (tmp_path / "iteration-1").exists()


def test_what_an_endpoint_answered_before_it_gave_up_is_not_asked_again(config, tmp_path, monkeypatch):
    config.scorer.function = "toy_scorers:nothing"  # as far as the test goes
    asked = []

    def answer_one(prompts, seed, ids):
        asked.append(list(ids))
        found = _said(prompts, seed, ids)
        if len(asked) == 1:
            raise RolloutFailed("http://localhost: no answer within 1 s", {0: found[0]})
        return found

    monkeypatch.setattr(PolicyRun, "open_rollout", lambda *_: answer_one)
    with pytest.raises(RolloutFailed, match="no answer within 1 s"):
        improve(config, tmp_path)
    with pytest.raises(ValueError, match="finite"):
        improve(config, tmp_path)
    assert asked == [[0, 2, 4], [2, 4], [6]]
    assert not (tmp_path / "iteration-1" / "samples" / stages.KEPT).exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: setattr(c.rollout, "responses", 1), "rollout.responses=1: must be at least 2"),
        (
            lambda c: setattr(c.prompts, "max_length", 20),
            r"prompts.jsonl:\d: the prompt takes \d+ tokens, max_length is 20",
        ),
        (lambda c: setattr(c.prompts, "max_length", 4096), "prompts.max_length=4096: .* at most 2044"),
        (
            lambda c: setattr(c.judge.prompts, "max_length", 4096),
            "config.judge.prompts.max_length=4096: .* at most 2044",
        ),
        (
            lambda c: setattr(c.scorer, "function", "nowhere:f"),
            "config.scorer.function='nowhere:f': cannot be imported",
        ),
        (lambda c: setattr(c.judge, "scorer", ScorerConfig(function="a.b:f")), "function='a.b:f': cannot be imported"),
        (lambda c: setattr(c.prompts, "source", ""), "prompts.source='': name a file"),
        (lambda c: setattr(c.scorer, "model", "there"), "exactly one must be given"),
        (lambda c: setattr(c.scorer, "function", "cycle"), "must be written module:name"),
        (lambda c: setattr(c.loss, "method", "magic"), "'magic'; allowed: 'gpo', 'sppo'"),
        (lambda c: (setattr(c.loss, "method", "grpo"), setattr(c.loss, "estimator", "both")), "must be 'all' with"),
        (lambda c: setattr(c, "batch", 6), "batch=6: must be a multiple of 8"),
    ],
)  # fmt: skip
def test_bad_configs_are_refused_in_one_line(config, tmp_path, change, message):
    change(config)
    with pytest.raises(ValueError, match=message) as refused:
        improve(config, tmp_path)
    assert "\n" not in str(refused.value)


def test_a_work_directory_in_use_is_refused_before_anything_is_read(config, tmp_path):
    config.policy.source = "/nowhere"
    with owned_directory(tmp_path), pytest.raises(InUse, match="in use by process"):
        improve(config, tmp_path)


def test_dropping_long_prompts_keeps_the_others_numbers(config, tmp_path, monkeypatch):
    _sample_nothing(monkeypatch)
    config.scorer.function, config.prompts.too_long = "toy_scorers:nothing", "drop"
    longest = 28  # tokens of the fourth prompt
    config.prompts.max_length = longest
    with pytest.raises(ValueError, match="finite"):
        improve(config, tmp_path)
    rows = [row for path in tmp_path.rglob("*.parquet") for row in tables.read(path, tables.SAMPLES).to_pylist()]
    assert rows and all(len(row["prompt_tokens"]) <= longest for row in rows)


@pytest.mark.parametrize("method", ["dpo", "gpo"])
def test_ties_leave_nothing_to_learn(config, tmp_path, monkeypatch, method):
    _sample_nothing(monkeypatch)
    config.scorer.function, config.loss.method = "toy_scorers:flat", method
    with pytest.raises(ValueError, match="iteration-1: every response ties"):
        improve(config, tmp_path)


def test_figures_count_repeated_texts_and_prompts_that_nothing_is_learnt_from():
    def row(*texts):
        return {
            "prompt_tokens": [1],
            "responses": list(texts),
            "response_tokens": [[2], [3, 4], [5]],
            "stopped": [True] * 3,
            "logprobs": None,
        }

    rows = [row("a", "b", "a"), row("c", "c", "c"), row("d", "e", "f")]
    sampled = stages.Samples.of(pa.Table.from_pylist(rows, schema=tables.SAMPLES))
    scores = [{"mean_score": [0.0] * 3, "win_rate": [0.5] * 3, "cyclic_share": 0.0} for _ in rows]
    scores = pa.Table.from_pylist(scores, schema=tables.SCORES)
    weight = np.array([[1, 0, 1], [0, 0, 0], [0, 0, 0]], np.float32)
    pairs = np.zeros((3, 3, 3), np.float32)
    pairs[2, 0, 1] = 1
    found = Signals(0 * weight, 0 * weight, weight, pairs)
    figures = iteration_figures(1, sampled, scores, Scored(pairs, 1.0, weight, weight), found, None)
    assert (figures["repeated_responses"], figures["prompts_left_out"], figures["responses"]) == (3, 1, 9)
    assert found.counts.tolist() == [[True, False, True], [False] * 3, [True, True, False]]


def test_a_judges_answers_come_from_where_the_policys_do_and_in_its_own_template(config, tmp_path, monkeypatch):
    config.iterations, config.judge.prompts.template = 1, "raw"
    config.rollout.endpoint, config.rollout.endpoint_model = "http://localhost:1/v1", "policy-{iteration}"
    asked = []

    def endpoint(rollout, chat, model):
        asked.append((model, rollout.responses, chat.template))
        return lambda prompts, seed, ids: _said(prompts, seed, ids, rollout.responses)

    monkeypatch.setattr(stages, "endpoint_rollout", endpoint)
    monkeypatch.setattr(stages, "local_rollout", lambda *_: pytest.fail("sampled here"))
    assert improve(config, tmp_path)["status"] == "finished"
    assert asked == [("policy-1", 3, "chat"), ("policy-1", 2, "raw"), ("policy-2", 2, "raw")]


def test_every_epoch_sees_every_example_once(example):
    examples = [example(prompt_id=n) for n in range(5)]
    batches = Batches(examples, 2, seed=1)
    rows = [[int(row) for step in range(3) for row in batches(3 * epoch + step).row if row >= 0] for epoch in range(2)]
    assert sorted(rows[0]) == sorted(rows[1]) == list(range(5)) and rows[0] != rows[1]
    np.testing.assert_array_equal(batches(4).row, Batches(examples, 2, seed=1)(4).row)


def _said(prompts, seed, ids=None, responses=3):
    """Answers that took no model."""
    ids = range(len(prompts)) if ids is None else ids

    def one(n, k):
        return np.array([2 + (n + k) % 200, 0], np.int32)

    def texts(n):
        return tuple(f"{n} {k}" for k in range(responses))

    logprobs = tuple(np.zeros(2, np.float32) for _ in range(responses))
    return [
        stages.Rollouts(texts(n), tuple(one(n, k) for k in range(responses)), logprobs, (True,) * responses)
        for n in ids
    ]


def _sample_nothing(monkeypatch):
    monkeypatch.setattr(PolicyRun, "open_rollout", lambda *_: _said)
