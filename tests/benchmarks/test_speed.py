"""Parts of the speed benchmarks: turns, ratios, equal tokens for both contenders, and one-line errors."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks.speed import parts
from benchmarks.speed.jobs import packed
from benchmarks.speed.measure import in_turns, machine, speedup
from benchmarks.speed.rows import one_response_rows, random_groups
from benchmarks.speed.score import power, rows_of
from benchmarks.torch_peer import pair_rows
from gpmjax.models.config import DecoderConfig
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.spec import PreferenceSpec

PROGRAM = Path(__file__).parents[2] / "launch" / "benchmark.py"


def test_contenders_take_turns_of_two_calls_after_one_warm_up_call():
    calls = []
    seconds = in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3)
    assert calls == ["a", "b"] + ["a", "a", "b", "b"] * 3
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}


def test_a_ratio_is_taken_within_a_turn():
    # In the second turn the machine is half as fast for both contenders, which must not change the ratio.
    assert speedup([1.0, 2.0], [3.0, 6.0]) == {"min": 3.0, "median": 3.0, "max": 3.0}


def test_both_contenders_get_the_same_tokens_and_ours_shares_the_prompt():
    groups = random_groups(2, prompt=10, responses=4, length=6, vocabulary=50)
    theirs = pair_rows(groups)
    assert theirs.tokens.shape == (2 * 4, 16) and theirs.real == 2 * 4 * 16
    ours, unshared = packed(groups, 80), one_response_rows(theirs)
    assert (ours.layout.group > 0).sum() == 2 * (10 + 4 * 6)
    np.testing.assert_array_equal(unshared.tokens, theirs.tokens)
    assert sorted(ours.tokens[0][ours.layout.response[0] > 0]) == sorted(theirs.tokens[:, 10:].ravel())
    assert ours.comparisons.weight.sum() == len(theirs.tokens) / 2


def test_pairs_of_responses_fill_rows_of_one_shape():
    prompt, pairs = np.arange(3, 8), [np.arange(10, 14)] * 7
    batches = rows_of(prompt, pairs, slots=18)
    assert [int((batch.layout.group > 0).sum()) for batch in batches] == [17, 17, 9]
    assert {batch.tokens.shape for batch in batches} == {(1, 17)}


def test_the_power_of_growth_is_taken_from_increments():
    counts = [2, 4, 8, 16]
    assert power([100 + 3 * k for k in counts]) == 1
    assert power([100 + 3 * k * k for k in counts]) == 2
    assert power([5, 4, 6]) is None


def test_the_report_names_machine_and_versions():
    found = machine()
    assert found["cores_used"] >= 1 and set(found["versions"]) >= {"jax", "torch", "transformers"} and found["date"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--suite=stop"], "flag --suite=stop: value should be one of <step|score|sample|pipeline>"),
        (["--suite=step", "--threads=9999"], "error: --threads=9999: this process may use"),
    ],
)
def test_flags_that_cannot_be_used_are_a_one_line_error(flags, message):
    done = subprocess.run([sys.executable, PROGRAM, *flags], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0 and message in done.stdout + done.stderr


def test_parts_of_a_step_are_measured_for_both_contenders():
    config = DecoderConfig(vocab_size=8, hidden_size=16, num_layers=2, num_heads=2, num_kv_heads=1, mlp_size=24)
    ours = packed(random_groups(1, prompt=8, responses=2, length=4, vocabulary=8), 16)
    model = PreferenceModel(config, PreferenceSpec.bradley_terry())
    params = jax.jit(model.init)(jax.random.key(0), ours)["params"]
    found = parts.of_a_step(config, params, ours.layout, (2, 12), attention="blockwise", repeats=1)
    assert list(found) == ["products", "attention", "optimizer"]
    assert all(figures[side]["median"] > 0 for figures in found.values() for side in ("ours", "peer"))
    assert set(found["products"]) == {"ours", "peer", "ours_gflops", "peer_gflops"}
