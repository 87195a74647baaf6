"""One set of fields names every judge; a program's flags are those fields, under the names that they always had."""

import re
from pathlib import Path

import pytest

from gpmjax.config.judge import JudgeConfig, ScorerConfig
from tests.launch.programs import run_program

LAUNCH = Path(__file__).parents[2] / "launch"
BEFORE = """model tokenizer max_length rows_per_batch dtype template attention feature_cache order symmetry rationales
vote rationale_tokens temperature kind gate normalise tau head question verdicts gate_at bos_tokens
mlp_activation"""
"""Flags of evaluate and diagnose before they were made of the dataclass."""


@pytest.mark.parametrize("program", ["evaluate.py", "diagnose.py"])
def test_every_former_flag_is_there(program):
    done = run_program(LAUNCH / program, "--help")
    flags = re.findall(r"^  --(?:\[no\])?(\w+):", done.stdout, re.M)
    assert [flag for flag in BEFORE.split() if flag not in flags] == []
    assert "default: '8'" in done.stdout and "At most so many tokens a rationale." in done.stdout


def test_a_policys_scorer_keeps_its_own_defaults():
    assert (JudgeConfig().attention, JudgeConfig.WINDOW) == ("auto", 2048)
    assert (ScorerConfig().attention, ScorerConfig.WINDOW) == ("xla", 4096)
    assert ScorerConfig(rows=4).rows == 4


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "exactly one must be given"),
        ({"model": "m", "endpoint": "http://h", "endpoint_model": "j"}, "exactly one must be given"),
        ({"endpoint": "http://h"}, "endpoint='http://h': must go with endpoint_model"),
        ({"endpoint": "h", "endpoint_model": "j"}, "endpoint='h': must begin with http"),
        ({"function": "f"}, "function='f': must be written module:name"),
        ({"model": "m", "rationales": 2, "feature_cache": "d"}, "feature_cache='d': must be empty with rationales"),
        ({"model": "m", "vote": "loudest"}, "vote is 'loudest'; allowed: 'mean', 'majority'"),
        ({"model": "m", "declare": "tau"}, "declare='tau': must read field=value"),
        ({"model": "m", "rows": 0}, "rows=0: must be at least 1"),
        ({"model": "m", "symmetry": "none"}, "symmetry='none': must be 'average'"),
    ],
    ids=str,
)
def test_refusals_name_the_field(fields, words):
    with pytest.raises(ValueError, match=words) as refusal:
        ScorerConfig(**fields).validate("judge.scorer")
    assert str(refusal.value).startswith("config.judge.scorer") and "\n" not in str(refusal.value)


def test_a_servers_answers_are_kept_beside_the_summary():
    asked = JudgeConfig(endpoint="http://h", endpoint_model="j")
    assert asked.beside("runs/dev.json").answer_cache == "runs/dev.cache.jsonl"
    assert asked.beside(None) == asked and JudgeConfig("m").beside("runs/dev.json") == JudgeConfig("m")
