"""Tests of cycles in the labels of judged groups, alone and against the model's cycles."""

import numpy as np
import pytest

from gpmjax.data.groups import Comparison, Group, user
from gpmjax.evals.diagnostics.diagnose import diagnose
from gpmjax.evals.diagnostics.vote_noise import cycles_of_groups, cycles_of_records, stated_cycles
from gpmjax.preference.game import hodge_decomposition

ROCK_PAPER_SCISSORS = np.array([[0, 1, -1], [-1, 0, 1], [1, -1, 0]], float)
REWARDS = np.subtract.outer([3.0, 1.0, -2.0], [3.0, 1.0, -2.0])
ROUND = [(0, 1), (1, 2), (2, 0)]
ORDER = [(0, 1), (1, 2), (0, 2)]


def test_stated_cycles_are_the_cyclic_part_in_log_odds(make_record):
    draw = np.random.default_rng(0).normal(size=(5, 5))
    scores = draw - draw.T
    record = make_record(scores, tau=0.1)
    assert np.abs(stated_cycles(record) - 10 * np.asarray(hodge_decomposition(scores)[1])).max() < 1e-4
    rewards = np.random.default_rng(1).normal(size=7)
    assert not stated_cycles(make_record(np.subtract.outer(rewards, rewards))).any()  # rounding errors are set to 0
    assert not stated_cycles(make_record([[0, 1], [-1, 0]])).any()
    assert stated_cycles(make_record([[0, np.nan], [np.nan, 0]])) is None


def test_the_models_cycles_are_found_in_labels_that_have_them(make_record):
    agree = cycles_of_records([make_record(ROCK_PAPER_SCISSORS, ROUND)] * 12, replicates=39)
    assert agree["labels"]["p"] == agree["model"]["p"] == 1 / 40
    against = cycles_of_records([make_record(-ROCK_PAPER_SCISSORS, ROUND)] * 12, replicates=39)
    assert against["labels"]["p"] == 1 / 40 and against["model"]["p"] == 1
    scalar = cycles_of_records([make_record(REWARDS, ROUND)] * 12, replicates=39)
    assert scalar["labels"]["p"] == 1 / 40 and scalar["model"]["p"] is None
    without = cycles_of_records([make_record(ROCK_PAPER_SCISSORS, ORDER)] * 12, replicates=39)
    assert without["labels"]["p"] > 0.05 and without["labels"]["triads"]["seen"] == 0


def test_incomplete_groups_are_left_out_of_the_models_test(make_record):
    half = ROCK_PAPER_SCISSORS.copy()
    half[0, 1] = half[1, 0] = np.nan
    found = cycles_of_records(
        [make_record(ROCK_PAPER_SCISSORS, ROUND)] * 6 + [make_record(half, [(1, 2), (2, 0)])] * 4, replicates=19
    )
    assert found["model"]["groups"] == 6 and found["model"]["left_out"] == 0 and found["labels"]["left_out"] == 8


def test_groups_and_records_give_the_same_test_of_labels(make_record):
    comparisons = tuple(Comparison(i, j, 0.75, weight=9.0) for i, j in ROUND)
    groups = [Group(user("?"), ("a", "b", "c"), comparisons)] * 12
    records = [make_record(REWARDS, [(*pair, 0.75) for pair in ROUND])] * 12
    assert cycles_of_groups(groups, replicates=19) == cycles_of_records(records, replicates=19)["labels"]


@pytest.mark.parametrize("replicates", [0, 19])
def test_the_diagnosis_has_the_tests_unless_replicates_are_zero(make_record, replicates):
    records = [make_record(ROCK_PAPER_SCISSORS, ROUND)] * 9
    found = diagnose(records, replicates=replicates)["diagnosis"]["cycles"]
    assert found == (cycles_of_records(records, replicates=19) if replicates else None)
