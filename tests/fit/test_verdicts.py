"""Pairwise models and verifiers are fitted by the same runs: from new heads, from the verdicts' logits, frozen or
not."""

import pytest

from gpmjax.config import ModelConfig
from gpmjax.config.judge import JudgeConfig
from gpmjax.evals.evaluate import EvaluationPlan, evaluate
from gpmjax.fit.fit import fit
from gpmjax.train.metrics import metric_lines

PAIRWISE = dict(kind="pairwise", dim=1, gate="none", normalise="none", tau=1.0, question="candidates")
VERIFIER = dict(
    kind="bt", dim=1, gate="none", normalise="none", tau=1.0, head="verdict",
    question="{prompt} {response}?", verdicts=("Y", "N"),
)  # fmt: skip


@pytest.fixture
def asking(config):
    """A config of this model, on questions of up to 160 bytes."""

    def change(**model):
        config.model = ModelConfig(**(config.model.__dict__ | model))
        config.data.max_length = 160
        config.steps = 8
        return config

    return change


def first_and_last_loss(workdir):
    losses = [line["loss"] for line in metric_lines(workdir) if "loss" in line]
    return losses[0], losses[-1]


@pytest.mark.parametrize("order", ["both", "shuffled"])
def test_a_pairwise_model_learns_and_is_measured_in_both_orders(asking, tmp_path, order, pairs_file):
    config = asking(**PAIRWISE)
    config.data.order, config.export = order, "native"
    summary = fit(config, tmp_path)
    before, after = first_and_last_loss(tmp_path)
    assert after < before
    (figures,) = summary["eval"].values()
    assert figures["accuracy"] > 0.7 and set(figures["order"]) >= {"consistent", "first_wins"}
    again = evaluate(EvaluationPlan(JudgeConfig(str(tmp_path / "model"), max_length=160), str(pairs_file)))
    assert again["spec"]["question"] == "candidates"
    assert again["accuracy"] == figures["accuracy"] and again["nll"] == pytest.approx(figures["nll"], abs=1e-4)


@pytest.mark.parametrize("lora", [0, 2])
def test_a_verifier_learns_to_say_its_verdict(asking, tmp_path, lora):
    config = asking(**VERIFIER, lora_rank=lora)
    config.loss.objective = "verdict"
    fit(config, tmp_path)
    before, after = first_and_last_loss(tmp_path)
    # More than the verdict between the two: their probability among all tokens is learned too.
    assert before > 2.0 and after < before


def test_a_head_may_begin_as_the_verdicts_log_odds(asking, tmp_path, pairs_file):
    """Before its first step it says what the language model itself says."""
    config = asking(**(VERIFIER | {"head": "linear"}), start_heads="verdict", backbone="frozen")
    config.steps, config.optimizer.learning_rate = 1, 1e-12
    frozen = fit(config, tmp_path / "frozen")
    config = asking(**VERIFIER, start_heads="new", backbone="train")
    config.steps = 1
    zero_shot = fit(config, tmp_path / "zero")
    (one,), (other,) = frozen["eval"].values(), zero_shot["eval"].values()
    assert one["accuracy"] == pytest.approx(other["accuracy"], abs=0.05)
    assert one["nll"] == pytest.approx(other["nll"], abs=1e-3)


@pytest.mark.parametrize(
    ("model", "loss", "words"),
    [
        (VERIFIER | {"backbone": "frozen"}, {}, "config.model.head='verdict': has nothing to train"),
        ({"start_heads": "verdict"}, {}, "config.model.start_heads='verdict': must have a question"),
        ({}, {"objective": "verdict"}, "config.loss.objective='verdict': must have a model.question"),
        (PAIRWISE, {"lm_coefficient": 0.1}, "config.loss.lm_coefficient=0.1: must be 0 with a model.question"),
        (PAIRWISE | {"question": "yes_or_no"}, {}, "question='yes_or_no': is about one response"),
        (PAIRWISE | {"question": "which?"}, {}, "question='which?': must be one of"),
        (VERIFIER | {"verdicts": ("Yes", "No")}, {}, "'Yes' is 3 tokens for this tokenizer"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(asking, tmp_path, model, loss, words):
    config = asking(**model)
    for name, value in loss.items():
        setattr(config.loss, name, value)
    with pytest.raises(ValueError) as refusal:
        fit(config, tmp_path)
    assert words in str(refusal.value) and "\n" not in str(refusal.value)
