"""Whole runs: they learn, resume bit by bit, stop when asked, and refuse what they cannot use."""

import copy
import dataclasses
import json
import os
import re
import shutil
import signal

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from gpmjax.fit import fit as fitting
from gpmjax.fit.features import group_keys
from gpmjax.fit.fit import fit
from gpmjax.hub import load_preference_model
from gpmjax.owner import InUse, owned_directory
from gpmjax.train.checkpoint import Checkpoints
from gpmjax.train.loop import Loop, StopRequest, TrainingDiverged
from gpmjax.train.metrics import metric_lines


def losses(workdir):
    return {line["step"]: line["loss"] for line in metric_lines(workdir) if "loss" in line}


def saved_params(workdir, config):
    """Leaves of the newest checkpoint, as numpy."""
    with Checkpoints(workdir / "checkpoints", config.checkpoint) as checkpoints:
        step = checkpoints.latest()
    tree = ocp.StandardCheckpointer().restore(workdir / "checkpoints" / str(step) / "params")
    return step, {
        jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def test_it_learns_and_leaves_everything_behind(config, tmp_path):
    config.export = "native"
    summary = fit(config, tmp_path)
    assert summary["status"] == "finished" and summary["step"] == 12
    recorded = losses(tmp_path)
    assert recorded[12] < recorded[1]
    (figures,) = summary["eval"].values()
    assert figures["accuracy"] > 0.9
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert any((tmp_path / "tensorboard").iterdir())
    assert load_preference_model(str(tmp_path / "model")).spec == config.model.spec()


def stop_after(monkeypatch, step):
    """SIGTERM as soon as the metrics of ``step`` are read."""
    read = Loop._read

    def read_and_stop(loop, pending):
        read(loop, pending)
        if pending is not None and pending.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Loop, "_read", read_and_stop)


def test_an_interrupted_run_goes_on_with_the_next_batch(config, tmp_path, monkeypatch):
    """Bit for bit this is tested on one device (tests/launch/test_train.py): sums over devices have no fixed order."""
    whole = fit(config, tmp_path / "straight")
    with monkeypatch.context() as patch:
        stop_after(patch, 6)
        summary = fit(config, tmp_path / "resumed")
    assert summary["status"] == "interrupted" and 6 <= summary["step"] <= 8
    rest = fit(config, tmp_path / "resumed")
    assert rest["status"] == "finished"
    # A run that began anew would end alike: what tells the two apart is what the second call trained on.
    assert summary["tokens"] + rest["tokens"] == whole["tokens"] and rest["tokens"] > 0
    straight, resumed = losses(tmp_path / "straight"), losses(tmp_path / "resumed")
    assert list(straight) == list(resumed)
    np.testing.assert_allclose(list(straight.values()), list(resumed.values()), rtol=1e-4)


def test_a_finished_run_says_so_again_and_refuses_another_config(config, tmp_path):
    config.model.backbone = "frozen"
    first = fit(config, tmp_path)
    again = fit(config, tmp_path)
    assert again["status"] == "finished" and again["step"] == first["step"]
    assert again["eval"] == first["eval"]
    config.seed = 1
    with pytest.raises(ValueError, match="seed=0, this config has 1.*new --workdir"):
        fit(config, tmp_path)


def test_nan_stops_with_step_and_rows_and_keeps_the_last_checkpoint(config, tmp_path, pairs_file):
    config.model.backbone = "frozen"
    rows = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    rows[5]["margin"] = 3e38  # divided by τ, infinite in float32
    bad = tmp_path / "bad.jsonl"
    bad.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config.data.train, config.data.eval = (str(bad),), ()
    config.checkpoint.every = 1
    config.data.max_responses = 2
    with pytest.raises(TrainingDiverged, match=r"step \d+: loss .*bad\.jsonl:6"):
        fit(config, tmp_path / "run")
    with Checkpoints(tmp_path / "run" / "checkpoints", config.checkpoint) as checkpoints:
        latest = checkpoints.latest()
    assert np.isfinite(losses(tmp_path / "run")[latest])


def test_best_checkpoint_outlives_newer_ones(config, tmp_path):
    config.model.backbone = "frozen"
    config.eval_every, config.checkpoint.keep, config.checkpoint.metric = 2, 1, "nll"
    summary = fit(config, tmp_path)
    evaluations = {
        line["step"]: next(iter(line["eval"].values()))["nll"] for line in metric_lines(tmp_path) if "eval" in line
    }
    assert summary["best_step"] == min(evaluations, key=lambda step: (evaluations[step], -step))
    kept = {int(path.name) for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit()}
    assert kept == {summary["best_step"], 12}


def test_learned_tau_moves_and_lora_leaves_the_rest_alone(config, tmp_path):
    config.model.tau_mode, config.model.lora_rank = "learned", 2
    config.loss.lm_coefficient = 0.1
    summary = fit(config, tmp_path)
    _, params = saved_params(tmp_path, config)
    assert {name for name in params if "lora" not in name} == {
        "['heads']['value']['kernel']", "['heads']['gate']['kernel']", "['heads']['log_tau']",
    }  # fmt: skip
    assert not np.isclose(params["['heads']['log_tau']"], np.log(0.1), atol=1e-6)
    assert summary["parameters"]["frozen"] > summary["parameters"]["trained"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.model.__setattr__("dim", 3), "dim is 3.*even"),
        (lambda c: c.model.__setattr__("source", "random:nothing"), "'nothing'; allowed: 'tiny'"),
        (lambda c: c.model.__setattr__("source", "/nowhere"), "/nowhere: no model, looked for a directory"),
        (lambda c: c.model.__setattr__("freeze", ("decodr/",)), "freeze pattern 'decodr/': found in no parameter path"),
        (lambda c: c.model.__setattr__("freeze", ("",)), "leaves no parameter to train"),
        (lambda c: c.data.__setattr__("train", ("/nowhere.jsonl",)), "/nowhere.jsonl"),
        (
            lambda c: c.data.__setattr__("max_length", 4096),
            "config.data.max_length=4096: must be at most 2048, the model's positions",
        ),
        (lambda c: c.data.__setattr__("rows", 6), "rows=6: must be a multiple of 8"),
        (lambda c: c.data.__setattr__("max_length", 8), "pairs.jsonl:1.*raise max_length"),
        (lambda c: c.mesh.__setattr__("tensor", 3), "must multiply to the 8 devices"),
        (lambda c: c.optimizer.__setattr__("accumulate", 3), "accumulate=3: must divide"),
    ],
)  # fmt: skip
def test_bad_configs_are_refused_in_one_line(config, tmp_path, change, message):
    change(config)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as refused:
        fit(config, tmp_path)
    assert "\n" not in str(refused.value)


def test_a_work_directory_in_use_is_refused_before_anything_is_read(config, tmp_path):
    config.model.source = "/nowhere"
    with owned_directory(tmp_path), pytest.raises(InUse, match="in use by process"):
        fit(config, tmp_path)


def test_what_is_cut_is_said(config, tmp_path, caplog):
    config.data.max_length = 40
    report = fitting.read_inputs(config, tmp_path, StopRequest()).data.train.report
    assert 0 < report.sequences_cut <= report.responses and report.tokens_cut
    said = f"{report.sequences_cut} of {report.responses} sequences lost {report.tokens_cut} tokens"
    assert [said in line for line in caplog.messages if "max_length=40" in line] == [
        True,
        True,
    ]  # to train on, to measure
    assert "config.data.train: " in caplog.text


def record_file(workdir, step=12):
    return workdir / "checkpoints" / str(step) / "record" / "metadata"


def test_a_resumption_must_not_change_what_gives_parameters_their_meaning(config, tmp_path, pairs_file, caplog):
    config.model.backbone, config.data.eval = "frozen", ()
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_bytes(pairs_file.read_bytes())
    config.data.train = (str(pairs),)
    run, before = tmp_path / "run", copy.deepcopy(config)
    fit(config, run)
    record = json.loads(record_file(run).read_text(encoding="utf-8"))
    assert record["model"]["base"] == fitting.read_inputs(config, run, StopRequest()).backbone.fingerprint()
    refused = {
        "optimizer.learning_rate=0.003, this config has 0.01": lambda c: setattr(c.optimizer, "learning_rate", 0.01),
        "optimizer.steps=12, this config has 13": lambda c: setattr(c, "steps", 13),
        "loss.label_smoothing=0.0, this config has 0.1": lambda c: setattr(c.loss, "label_smoothing", 0.1),
        "model.freeze=[], this config has ['gate']": lambda c: setattr(c.model, "freeze", ("gate",)),
        "seed=0, this config has 1": lambda c: setattr(c, "seed", 1),
        "spec.tau=": lambda c: setattr(c.model, "tau", 0.7),
        "data.content=": lambda c: pairs.write_text(
            "".join(pairs_file.read_text(encoding="utf-8").splitlines(True)[1:]), encoding="utf-8"
        ),
    }
    for message, change in refused.items():
        config = copy.deepcopy(before)
        change(config)
        with pytest.raises(ValueError) as error:
            fit(config, run)
        assert f"{run}: was begun with {message}" in str(error.value) and "\n" not in str(error.value)
    assert re.search(
        r"data.content=8 groups, 24 comparisons, digest \w+, this config has 8 groups, 23 comparisons, digest",
        str(error.value),
    )

    config = copy.deepcopy(before)
    moved = tmp_path / "moved.jsonl"
    moved.write_bytes(pairs_file.read_bytes())
    config.data.train, config.data.eval = (str(moved),), (str(pairs_file),)
    config.log_every, config.checkpoint.every, config.mesh.fsdp, config.mesh.tensor = 3, 7, 4, 2
    caplog.clear()
    assert fit(config, run)["status"] == "finished"
    assert "did not record ranked_by; whether" in caplog.text  # a first evaluation set is new, not changed

    # As an earlier version left it.
    data = json.loads(json.dumps(dataclasses.asdict(before.data)))
    record_file(run).write_text(json.dumps({"spec": record["spec"], "seed": 0, "data": data}), encoding="utf-8")
    pairs.write_bytes(pairs_file.read_bytes())
    caplog.clear()
    assert fit(before, run)["status"] == "finished"
    assert "was begun by another version, which did not record model.freeze, " in caplog.text
    assert "its bits are not checked" in caplog.text
    with pytest.raises(ValueError, match="was begun with data.train="):
        fit(config, run)


def test_sigterm_during_an_evaluation_loses_no_line_and_no_ranking(config, tmp_path, monkeypatch):
    config.model.backbone, config.eval_every, config.checkpoint.keep = "frozen", 6, 3
    evaluate = fitting.evaluate_sets

    def interrupted(*given):
        os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(*given)

    def evaluations():
        return [line["step"] for line in metric_lines(tmp_path) if "eval" in line]

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "evaluate_sets", interrupted)
        summary = fit(config, tmp_path)
        assert (summary["status"], summary["step"]) == ("interrupted", 6)
        again = fit(config, tmp_path)  # while it makes up for the evaluation that was broken off
        assert (again["status"], again["step"]) == ("interrupted", 6) and evaluations() == []

    def interrupted_at_last(*given):
        return (interrupted if evaluations() else evaluate)(*given)

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "evaluate_sets", interrupted_at_last)
        summary = fit(config, tmp_path)
        assert (summary["status"], summary["step"]) == ("interrupted", 12)
    assert fit(config, tmp_path)["status"] == "finished"
    assert evaluations() == [6, 12]
    with Checkpoints(tmp_path / "checkpoints", config.checkpoint) as checkpoints:
        assert checkpoints.metrics(6) is not None and checkpoints.metrics(12) is not None
    monkeypatch.setattr(fitting, "evaluate_sets", interrupted)
    summary = fit(config, tmp_path)  # a finished run, evaluated again for its summary
    assert (summary["status"], summary["step"]) == ("interrupted", 12)


def test_a_broken_checkpoint_is_passed_over_and_the_run_ends_alike(config, tmp_path):
    config.model.backbone, config.data.eval, config.checkpoint.every = "frozen", (), 6
    first = fit(config, tmp_path)
    step = tmp_path / "checkpoints" / "12"
    (step / "params" / "_METADATA").unlink()
    (tmp_path / ".model.abcdefg1.new").mkdir()
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / ".curve.png.99.partial").touch()
    again = fit(config, tmp_path)
    assert again["step"] == first["step"] == 12 and sorted(losses(tmp_path)) == list(range(1, 13))
    assert not list(tmp_path.rglob("*.partial")) and not list(tmp_path.glob(".model*"))
    shutil.rmtree(tmp_path / "checkpoints" / "6")
    (step / "params" / "_METADATA").unlink()
    with pytest.raises(ValueError, match="checkpoints/12: broken checkpoint.*delete this directory"):
        fit(config, tmp_path)


def test_a_stop_request_is_seen_between_feature_batches(config, tmp_path, monkeypatch):
    config.model.backbone = "frozen"
    monkeypatch.setattr(
        fitting, "encode_missing", lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGTERM) or args[2](None)
    )
    summary = fit(config, tmp_path)
    assert summary["status"] == "interrupted" and summary["step"] == 0


def test_sequences_are_trained_as_the_config_declares(config, tmp_path):
    """As many BOS as it says, in the data and in the model that is saved; and in the key of every feature."""
    runs = []
    for count in (2, -1):
        config.model.bos_tokens = count
        runs.append(fitting.read_inputs(config, tmp_path, StopRequest()))
    two, written = (run.data.sources[0][0] for run in runs)
    assert list(two.prompt) == [written.prompt[0], *written.prompt]
    assert set(group_keys(two)).isdisjoint(group_keys(written)) and runs[0].backbone.model.spec.bos_tokens == 2
