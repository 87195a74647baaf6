"""Blocks: their contributions, decisions and accuracies, on planted and on random embeddings."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpmjax.evals.diagnostics.blocks import contributions, decisive_blocks
from gpmjax.evals.diagnostics.edges import edge_aspects, edge_decisions
from gpmjax.preference.score import pairwise_scores


def record_of(make_gpm_record, seed, size=4, blocks=3, **fields):
    draw = np.random.default_rng(seed)
    return make_gpm_record(draw.normal(size=(size, 2 * blocks)), draw.random(blocks), **fields)


@given(st.integers(0, 999))
def test_contributions_add_up_to_the_score(make_gpm_record, seed):
    record = record_of(make_gpm_record, seed)
    np.testing.assert_allclose(contributions(record).sum(0), record["scores"], atol=1e-12)
    scores = pairwise_scores(np.array(record["embedding"], np.float32), np.array(record["scale"], np.float32))
    np.testing.assert_allclose(contributions(record).sum(0), scores, atol=1e-5)


def test_the_block_that_explains_the_labels_is_found(make_gpm_record):
    """Block 2 is (1, r), for which the smaller r wins, and labels follow it. Block 1 is noise of the same size."""
    draw = np.random.default_rng(0)
    records = []
    for _ in range(40):
        reward = draw.normal(size=3)
        v = np.column_stack([draw.normal(size=(3, 2)), np.ones(3), reward])
        order = np.argsort(reward).tolist()
        records.append(make_gpm_record(v, [1.0, 1.0], [(order[0], order[1]), (order[2], order[1], 0.0), (0, 1, 0.5)]))
    found = decisive_blocks(records)
    noise, carrier = found["blocks"]
    assert carrier["accuracy"] == 1 == noise["accuracy_without"] and found["labelled"] == 80
    assert noise["accuracy_interval"][0] < 0.5 < noise["accuracy_interval"][1]
    assert carrier["accuracy_without"] == noise["accuracy"] and noise["accuracy"] < found["accuracy"] < 1
    assert found["pairs"] == 120 and noise["largest"] + carrier["largest"] == pytest.approx(1)
    assert noise["weight"] + carrier["weight"] == pytest.approx(1)


def test_blocks_whose_removal_reverses_a_verdict_flip_it(make_gpm_record):
    """c = (3, −2, −2): block 1 is the largest, but the other two decide. Without either the verdict reverses."""
    record = make_gpm_record([[1, 0] * 3, [0, 3, 0, -2, 0, -2]], comparisons=[(0, 1)])
    found = decisive_blocks([record])
    assert [block["largest"] for block in found["blocks"]] == [1, 0, 0]
    assert [block["flips"] for block in found["blocks"]] == [0, 1, 1]
    assert [block["agrees"] for block in found["blocks"]] == [0, 1, 1]
    assert [block["accuracy"] for block in found["blocks"]] == [1, 0, 0] and found["accuracy"] == 0
    assert [block["accuracy_without"] for block in found["blocks"]] == [0, 1, 1]
    assert [block["weight"] for block in found["blocks"]] == pytest.approx([3 / 7, 2 / 7, 2 / 7])
    assert found["opposed"] == 1


def test_a_single_block_decides_everything(make_gpm_record):
    found = decisive_blocks([record_of(make_gpm_record, 0, blocks=1)])
    assert found["blocks"][0] | {"accuracy": None} == {
        "block": 1, "weight": 1.0, "largest": 1.0, "flips": 1.0, "agrees": 1.0,
        "accuracy": None, "accuracy_interval": None, "accuracy_without": None,
    }  # fmt: skip
    assert found["opposed"] == 0


@pytest.mark.parametrize("embedding", [None, [[1.0], [0.5]]], ids=["pairwise", "rewards"])
def test_records_without_blocks_have_no_figures(make_record, embedding):
    record = make_record([[0, 1], [-1, 0]]) | ({} if embedding is None else {"embedding": embedding})
    assert contributions(record) is None and decisive_blocks([record]) is None and edge_decisions([record]) is None


def test_embeddings_of_two_sizes_are_refused(make_gpm_record):
    with pytest.raises(ValueError, match=r"\[1, 2\] blocks"):
        decisive_blocks([record_of(make_gpm_record, 0, blocks=n) for n in (1, 2)])


@given(st.integers(0, 999), st.floats(0.1, 10), st.permutations(range(4)), st.floats(0, 6.3))
def test_order_units_and_rotations_of_a_block_do_not_matter(make_gpm_record, relabelled, seed, factor, order, angle):
    record = record_of(make_gpm_record, seed, comparisons=[(0, 1), (2, 3)])
    v = np.array(record["embedding"])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    v[:, 2:4] = v[:, 2:4] @ turn
    changed = relabelled(make_gpm_record(v * factor, record["scale"], [(0, 1), (2, 3)]), order)
    assert flat(decisive_blocks([changed])) == pytest.approx(flat(decisive_blocks([record])), abs=1e-4)


def flat(found):
    numbers = [value for block in found["blocks"] for value in block.values() if isinstance(value, float)]
    return [*numbers, found["accuracy"], found["opposed"]]


CYCLE = [(0, 1), (1, 2), (2, 0)]


@pytest.mark.parametrize(
    ("config", "comparisons", "aspects"),
    [
        ("a,b,c", [(0, 1, 1), (1, 2, 1), (2, 0, 1)], ["a", "b", "c"]),
        ("a,b,c", [(0, 1, 1), (1, 2, 1), (2, 0, 1), (3, 1, 1), (1, 0, 1), (0, 3, 1)], ["a", "b", "c"] * 2),
        ("a,b,c", [(0, 1, 1), (1, 2, 1), (0, 2, 1)], None),
        ("a,b,c", [(0, 1, 1), (1, 2, 1), (2, 0, 1), (0, 1, 1)], None),
        ("a,b", [(0, 1, 1), (1, 0, 1)], None),
        ("a,b,c", [], None),
    ],
)
def test_edges_have_aspects_only_in_cycles_that_follow_the_config(config, comparisons, aspects):
    assert edge_aspects({"tags": {"config": config}, "comparisons": comparisons}) == aspects


def test_edge_accuracies_are_those_of_each_block(make_gpm_record):
    """Block 1 is right on all edges; block 2 is right on the first, tied on the second and wrong on the third."""
    angles = np.arange(3) * 2 * np.pi / 3
    v = np.column_stack([np.cos(angles), np.sin(angles), [1, 1, 1], [0, 0.1, 0.1]])
    found = edge_decisions([make_gpm_record(v, comparisons=CYCLE, tags={"config": "a,b,c"})] * 2)
    assert {aspect: line["blocks"] for aspect, line in found.items()} == {"a": [1, 1], "b": [1, 0.5], "c": [1, 0]}
    assert all(line["accuracy"] == 1 and line["comparisons"] == 2 for line in found.values())
