"""A score is a function of the model, the prompt and the two responses. Nothing about batches may move it."""

import dataclasses

import jax
import numpy as np
import pytest

from gpmjax.data.assemble import BatchShape, assemble
from gpmjax.data.encode import encode_groups
from gpmjax.data.group_files import read_groups
from gpmjax.evals.comparisons import score_batches
from gpmjax.evals.held_out import held_out
from gpmjax.judges.forward import make_scorer
from gpmjax.sharding import make_mesh

TOLERANCE = 1e-5
MAX_LENGTH = 128


def scores(scorer, batches):
    """[number of comparisons], by row."""
    found = {}
    for part in score_batches(scorer, batches):
        found |= dict(zip(part.row.tolist(), part.score.tolist(), strict=True))
    assert sorted(found) == list(range(len(found)))
    return np.array([found[row] for row in range(len(found))])


@pytest.fixture(scope="module")
def scorer(model_and_params):
    return make_scorer(*model_and_params, make_mesh(devices=jax.devices()[:1]))


@pytest.fixture(scope="module")
def alone(scorer, pairs, chat, write_rows):
    """Every pair by itself: a batch of one row that holds two responses and nothing else."""
    groups, _ = encode_groups(read_groups(write_rows(pairs)), chat, max_length=MAX_LENGTH)
    return scores(scorer, (assemble([[group]], BatchShape(1, MAX_LENGTH * 2, 2, 1)) for group in groups))


@pytest.mark.parametrize(
    "how",
    [
        {"rows_per_batch": 1},
        {"rows_per_batch": 5, "packing": "single"},
        # Too short for a group, so that it is split and its prompt encoded more than once.
        {"rows_per_batch": 2, "row_length": 192},
        # Long enough for all groups in one row.
        {"rows_per_batch": 1, "row_length": 2048},
    ],
    ids=str,
)
def test_scores_do_not_move_with_batch_size_grouping_or_packing(scorer, alone, pairs, chat, write_rows, how):
    data = held_out(write_rows(pairs), chat, max_length=MAX_LENGTH, **how)
    groups_in_rows = [len(row) for step in range(data.steps) for row in data.pipeline.rows(step)]
    assert sum(groups_in_rows) > 3 if how.get("row_length") == 100 else sum(groups_in_rows) == 3
    assert max(groups_in_rows) == (3 if how.get("row_length") == 2048 else 1)
    np.testing.assert_allclose(scores(scorer, data.batches()), alone, rtol=0, atol=TOLERANCE)
    # The comparison is worth something only where scores differ.
    assert np.abs(alone).max() > 0.1 and len(np.unique(alone.round(3))) > len(alone) // 2


def test_scores_do_not_move_with_padding(scorer, alone, pairs, chat, write_rows):
    data = held_out(write_rows(pairs), chat, max_length=MAX_LENGTH, rows_per_batch=2)
    shape = data.pipeline.shape
    roomy = dataclasses.replace(
        shape, tokens=shape.tokens + 37, responses=shape.responses + 3, comparisons=shape.comparisons + 5
    )
    batches = (assemble(data.pipeline.rows(step), roomy) for step in range(data.steps))
    np.testing.assert_allclose(scores(scorer, batches), alone, rtol=0, atol=TOLERANCE)


def test_scores_do_not_move_with_the_order_of_the_file(scorer, alone, pairs, chat, write_rows):
    order = np.random.default_rng(0).permutation(len(pairs))
    data = held_out(write_rows([pairs[i] for i in order]), chat, max_length=MAX_LENGTH, rows_per_batch=2)
    np.testing.assert_allclose(scores(scorer, data.batches()), alone[order], rtol=0, atol=TOLERANCE)


def test_scores_do_not_move_with_the_layout_of_the_file(scorer, alone, pairs, chat, write_rows):
    grouped = {}
    for pair in pairs:
        group = grouped.setdefault(pair["prompt"], {"prompt": pair["prompt"], "responses": [], "comparisons": []})
        for side in ("chosen", "rejected"):
            if pair[side] not in group["responses"]:
                group["responses"].append(pair[side])
        indices = {f"{side}_idx": group["responses"].index(pair[side]) for side in ("chosen", "rejected")}
        group["comparisons"].append(indices | {"target": pair["chosen_probs"]})
    data = held_out(write_rows(grouped.values()), chat, max_length=MAX_LENGTH, rows_per_batch=2)
    np.testing.assert_allclose(scores(scorer, data.batches()), alone, rtol=0, atol=TOLERANCE)


def test_swapping_the_sides_negates_the_score(scorer, alone, pairs, chat, write_rows):
    swapped = [pair | {"chosen": pair["rejected"], "rejected": pair["chosen"]} for pair in pairs]
    data = held_out(write_rows(swapped), chat, max_length=MAX_LENGTH, rows_per_batch=2)
    np.testing.assert_allclose(scores(scorer, data.batches()), -alone, rtol=0, atol=TOLERANCE)
