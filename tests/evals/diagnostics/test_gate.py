"""The gate's spectrum: sizes, variation and effective number of blocks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpmjax.evals.diagnostics.gate import QUANTILES, gate_spectrum


def spectrum(scales):
    return gate_spectrum([{"scale": list(scale)} for scale in scales])


def test_a_constant_gate():
    found = spectrum([[1.0, 3.0]] * 4)
    assert [block["mean"] for block in found["blocks"]] == [1, 3]
    assert [block["variation"] for block in found["blocks"]] == [0, 0]
    assert [block["largest"] for block in found["blocks"]] == [0, 1]
    entropy = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert found["effective_blocks"]["mean"] == pytest.approx(np.exp(entropy)) == found["effective_blocks_overall"]
    assert found["prompt_information"] == pytest.approx(0, abs=1e-12)


def test_a_gate_that_selects_one_block_per_prompt():
    found = spectrum([[5.0, 0, 0], [0, 5.0, 0], [0, 0, 5.0]])
    assert found["effective_blocks"]["mean"] == pytest.approx(1)
    assert found["effective_blocks_overall"] == pytest.approx(3)
    assert found["prompt_information"] == pytest.approx(np.log(3))
    assert found["blocks"][1]["variation"] == pytest.approx(np.sqrt(2))


def test_quantiles_are_numpys_and_a_block_at_zero_has_no_variation():
    values = np.random.default_rng(0).random((50, 2)) * [1, 0]
    found = spectrum(values)
    assert found["blocks"][0]["quantiles"] == np.quantile(values[:, 0], QUANTILES).tolist()
    assert found["blocks"][1]["variation"] is None and found["prompts"] == 50


def test_no_gate_has_no_figures_and_gates_of_two_sizes_are_refused():
    assert gate_spectrum([{"scores": []}]) is None
    with pytest.raises(ValueError, match=r"gates of \[1, 2\] blocks"):
        spectrum([[1.0], [1.0, 2.0]])


@given(st.integers(0, 99), st.floats(0.01, 100), st.randoms())
def test_units_of_the_gate_do_not_change_the_effective_blocks(seed, factor, random):
    scales = np.random.default_rng(seed).random((6, 4))
    found, scaled = spectrum(scales), spectrum(scales * factor)
    assert scaled["effective_blocks"]["mean"] == pytest.approx(found["effective_blocks"]["mean"])
    assert scaled["prompt_information"] == pytest.approx(found["prompt_information"], abs=1e-9)
    order = random.sample(range(4), 4)
    moved = spectrum(scales[:, order])["blocks"]
    assert [block["mean"] for block in moved] == pytest.approx([found["blocks"][n]["mean"] for n in order])
    assert 1 <= found["effective_blocks"]["mean"] <= 4
