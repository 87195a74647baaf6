"""Forward tokens, measured and by formula."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gpmjax.evals.diagnostics.cost import forward_cost, tokens_for

LENGTHS = st.lists(st.integers(1, 400), min_size=1, max_size=7)


@given(st.integers(1, 500), LENGTHS)
def test_formulas_are_sums_over_passes(prompt, responses):
    found = tokens_for(prompt, responses)
    assert found["separate"] == sum(prompt + r for r in responses)
    assert found["pairwise"] == sum(prompt + a + b for a, b in itertools.permutations(responses, 2))
    assert found["shared"] <= found["separate"]


@given(st.integers(1, 500), st.integers(1, 400), st.integers(2, 9))
def test_equal_lengths_give_the_formula_in_the_docstring(prompt, response, count):
    assert tokens_for(prompt, [response] * count)["pairwise"] == count * (count - 1) * (prompt + 2 * response)


def test_measured_and_by_formula(make_record):
    known = make_record([[0, 1], [-1, 0]], tokens=[10, 20], forward_tokens=80, prompt_tokens=50)
    other = make_record([[0]], tokens=[7], forward_tokens=27)
    found = forward_cost([known, other])
    assert (found["groups"], found["responses"], found["pairs"], found["known"]) == (2, 3, 1, 1)
    assert (found["forward_tokens"], found["per_group"], found["per_pair"]) == (107, 53.5, 107)
    assert found["formula"] == {"shared": 80, "separate": 130, "pairwise": 160}
    assert found["by_size"][1] == {"K": 4, "shared": 50 + 60, "separate": 200 + 60, "pairwise": 12 * (50 + 30)}


def test_without_prompt_lengths_only_the_measurement_is_left(make_record):
    found = forward_cost([make_record([[0]])])
    assert found["formula"] is None and found["by_size"] is None and found["per_pair"] is None
