"""Every field of both configs, filled with what no run could use: one line that names the field and the value."""

import dataclasses
import math
import re
import typing

import pytest

from gpmjax.config import Config, DataConfig, ModelConfig
from gpmjax.config.improve import ContestConfig, ImproveConfig, PromptsConfig, ScorerConfig


def fit_config() -> Config:
    return Config(data=DataConfig(train=("pairs.jsonl",), weights=(1.0,)))


def improve_config() -> ImproveConfig:
    prompts = PromptsConfig(source="prompts.jsonl")
    judge = ContestConfig(scorer=ScorerConfig(model="judge"), prompts=PromptsConfig(source="prompts.jsonl"))
    return ImproveConfig(prompts=prompts, scorer=ScorerConfig(model="scorer"), judge=judge)


def fields(holder, kinds, prefix=""):
    """Dotted names of the fields, however deep, that are declared to be of one of these types."""
    for name, hint in typing.get_type_hints(type(holder)).items():
        if dataclasses.is_dataclass(hint):
            yield from fields(getattr(holder, name), kinds, f"{prefix}{name}.")
        elif hint in kinds:
            yield f"{prefix}{name}"


def refusal(make, name, value) -> str:
    config = make()
    *path, last = name.split(".")
    holder = config
    for part in path:
        holder = getattr(holder, part)
    setattr(holder, last, value)
    with pytest.raises(ValueError) as error:
        config.validate()
    return str(error.value)


CONFIGS = (fit_config, improve_config)
NUMBERS = [(make, name) for make in CONFIGS for name in fields(make(), (int, float))]
WHOLE = [(make, name) for make in CONFIGS for name in fields(make(), (int,))]
TEXTS = [(make, name) for make in CONFIGS for name in fields(make(), (str,))]
MINUS_ONE = re.compile(r"^mesh\.|^distributed\.process|\bbos_tokens$")
"""Fields in which −1 has a meaning."""


def ids(case):
    return case.__name__ if callable(case) else case


def test_the_tables_hold_what_they_should():
    assert all(make().validate() for make in CONFIGS)
    assert (
        len(NUMBERS) > 60
        and (improve_config, "judge.scorer.tau") in NUMBERS
        and (fit_config, "optimizer.b1") in NUMBERS
    )


@pytest.mark.parametrize(("make", "name"), NUMBERS, ids=ids)
def test_numbers(make, name):
    for value in (True, "1", None, math.nan, math.inf, -math.inf, 10**400, -(10**400), [1]):
        message = refusal(make, name, value)
        assert (
            message.startswith(f"config.{name}=")
            and "must be" in message
            and "\n" not in message
            and len(message) < 200
        )
    if not MINUS_ONE.search(name):
        assert refusal(make, name, -1).startswith(f"config.{name}")


@pytest.mark.parametrize(("make", "name"), WHOLE, ids=ids)
def test_whole_numbers(make, name):
    assert refusal(make, name, 1.5) == f"config.{name}=1.5: must be a whole number"
    assert refusal(make, name, 10**12).startswith(f"config.{name}=1000000000000: must be ")


@pytest.mark.parametrize(("make", "name"), TEXTS, ids=ids)
def test_texts(make, name):
    for value in (7, None, True, ("a",)):
        assert refusal(make, name, value) == f"config.{name}={value!r}: must be a text"


@pytest.mark.parametrize(
    ("make", "name", "value", "words"),
    [
        # One of each thing that a range, not a type, must refuse.
        (fit_config, "optimizer.b1", 1.0, "config.optimizer.b1=1.0: must be in [0, 1)"),
        (fit_config, "optimizer.b2", 1.0, "config.optimizer.b2=1.0: must be in [0, 1)"),
        (fit_config, "optimizer.eps", 0.0, "config.optimizer.eps=0.0: must be positive and finite"),
        (fit_config, "optimizer.eps", 1e-300, "config.optimizer.eps=1e-300: must be positive in float32"),
        (
            fit_config,
            "optimizer.learning_rate",
            1e300,
            "config.optimizer.learning_rate=1e+300: must be finite in float32",
        ),
        (fit_config, "optimizer.weight_decay", -0.1, "config.optimizer.weight_decay=-0.1: must be at least 0"),
        (fit_config, "loss.centering", -0.5, "config.loss.centering=-0.5: must be at least 0"),
        (fit_config, "model.tau", 0.0, "config.model.tau=0.0: must be in [1e-06, 1000000.0]"),
        (fit_config, "model.dim", 10**9, "config.model.dim=1000000000: must be at least 1 and at most 65536"),
        (
            fit_config,
            "model.lora_rank",
            10**9,
            "config.model.lora_rank=1000000000: must be at least 0 and at most 65536",
        ),
        (fit_config, "model.lora_alpha", 0.0, "config.model.lora_alpha=0.0: must be positive"),
        (fit_config, "model.freeze", ("(",), "config.model.freeze=('(',): '(' is no regular expression (missing )"),
        (fit_config, "model.freeze", "lora", "config.model.freeze='lora': must be a tuple"),
        (fit_config, "model.mlp_widths", (0,), "config.model.mlp_widths[0]=0: must be at least 1 and at most 1048576"),
        (fit_config, "model.mlp_widths", (True,), "config.model.mlp_widths[0]=True: must be a whole number"),
        (fit_config, "model.mlp_widths", (10**9,), "must be at least 1 and at most 1048576"),
        (fit_config, "seed", -1, "config.seed=-1: must be at least 0 and at most 4294967295"),
        (fit_config, "data.weights", (math.nan,), "config.data.weights[0]=nan: must be finite"),
        (fit_config, "data.weights", (0.0,), "config.data.weights[0]=0.0: must be positive"),
        (fit_config, "data.train", "pairs.jsonl", "config.data.train='pairs.jsonl': must be a tuple"),
        (
            fit_config,
            "data.rows",
            10**9,
            "config.data.rows=1000000000: with 4096 token slots a row it must be at most 524287",
        ),
        (
            fit_config,
            "data.max_length",
            10**9,
            "config.data.max_length=1000000000: must be at least 2 and at most 16777216",
        ),
        (fit_config, "model", DataConfig(), "must be a ModelConfig"),
        (improve_config, "policy.freeze", ("*",), "config.policy.freeze=('*',): '*' is no regular expression"),
        (improve_config, "rollout.top_p", 0.0, "config.rollout.top_p=0.0: must be in (0, 1]"),
        (
            improve_config,
            "rollout.endpoint",
            "localhost:8000",
            "config.rollout.endpoint='localhost:8000': must begin with http://",
        ),
        (
            improve_config,
            "rollout.endpoint_model",
            "{nope}",
            "config.rollout.endpoint_model='{nope}': may hold {iteration} alone",
        ),
        (
            improve_config,
            "rollout.endpoint_model",
            "{",
            "config.rollout.endpoint_model='{': may hold {iteration} alone",
        ),
        (
            improve_config,
            "rollout.max_new_tokens",
            10**9,
            "config.rollout.max_new_tokens=1000000000: must be at least 1",
        ),
        (improve_config, "scorer.dtype", "float8", "config.scorer.dtype is 'float8'; allowed: 'float32', 'bfloat16'"),
        (improve_config, "scorer.gate", "soft", "config.scorer.gate is 'soft'; allowed: '', 'none'"),
        (improve_config, "scorer.tau", 1e-30, "config.scorer.tau=1e-30: must be in"),
        (improve_config, "judge.scorer.attention", "eager", "config.judge.scorer.attention is 'eager'; allowed: 'xla'"),
        (
            improve_config,
            "judge.responses",
            10**6,
            "config.judge.responses=1000000: must be at least 1 and at most 4096",
        ),
    ],
    ids=lambda case: None if callable(case) else str(case)[:30],
)
def test_ranges(make, name, value, words):
    assert words in refusal(make, name, value)


def test_a_list_passes_for_a_tuple():
    config = fit_config()
    config.data.weights, config.model = [1.0], ModelConfig(head="mlp", mlp_widths=[8, 4])
    assert config.validate().model.spec().mlp_widths == (8, 4)
