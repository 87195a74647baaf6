"""A batch of a number is the same for any host count and starting step; each group is in an epoch once."""

import jax
import numpy as np
import pytest

from gpmjax.data.assemble import BatchShape
from gpmjax.data.chat import ChatFormat
from gpmjax.data.encode import EncodedGroup
from gpmjax.data.groups import Comparison
from gpmjax.data.pipeline import Pipeline, fit_shape, prepare

SHAPE = BatchShape(rows=8, tokens=32, responses=8, comparisons=6)


def groups(count, first_number=0, seed=0):
    random = np.random.default_rng(seed)
    return [
        EncodedGroup(
            random.integers(0, 9, random.integers(1, 6)),
            0,
            tuple(random.integers(0, 9, n) for n in random.integers(1, 8, 2)),
            (Comparison(0, 1, number=first_number + i),),
            {},
            f"f:{i}",
        )
        for i in range(count)
    ]


def numbers_of(batch):
    return sorted(batch.comparisons.number[batch.comparisons.weight > 0].tolist())


@pytest.mark.parametrize("hosts", [1, 2, 4])
@pytest.mark.parametrize("weights", [None, [1.0, 3.0]])
def test_hosts_together_see_the_same_batches(hosts, weights):
    sources = [groups(30), groups(70, first_number=30, seed=1)]
    alone = Pipeline(sources, SHAPE, weights=weights, seed=3)
    shared = [Pipeline(sources, SHAPE, weights=weights, seed=3, host=h, hosts=hosts) for h in range(hosts)]
    for step in range(alone.steps(2)):
        parts = [pipeline.batch(step) for pipeline in shared]
        assert all(len(part.tokens) == SHAPE.rows // hosts for part in parts)
        joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
        jax.tree.map(np.testing.assert_array_equal, joined, alone.batch(step))


def test_any_step_can_be_the_first():
    sources = [groups(40)]
    straight = Pipeline(sources, SHAPE, seed=1)
    batches = [straight.batch(step) for step in range(straight.steps(3))]
    for start in range(0, len(batches), 2):
        fresh = Pipeline(sources, SHAPE, seed=1)
        for step in reversed(range(start, len(batches))):  # any order, any starting point
            jax.tree.map(np.testing.assert_array_equal, fresh.batch(step), batches[step])


def test_each_epoch_holds_every_group_once():
    pipeline = Pipeline([groups(37), groups(20, first_number=37)], SHAPE, seed=2)
    for epoch in range(3):
        steps = range(pipeline.steps(epoch), pipeline.steps(epoch + 1))
        assert sorted(number for step in steps for number in numbers_of(pipeline.batch(step))) == list(range(57))
        assert [pipeline.locate(step) for step in steps] == [(epoch, n) for n in range(len(steps))]
    first, second = (
        [numbers_of(pipeline.batch(s)) for s in range(pipeline.steps(e), pipeline.steps(e + 1))] for e in (0, 1)
    )
    assert first != second


def test_ordered_is_the_same_every_epoch():
    pipeline = Pipeline([groups(37)], SHAPE, order="ordered")
    steps = pipeline.steps(1)
    for step in range(steps):
        assert numbers_of(pipeline.batch(step)) == numbers_of(pipeline.batch(step + steps))


def test_weights_set_the_shares():
    pipeline = Pipeline([groups(10), groups(30, first_number=10)], SHAPE, weights=[1.0, 1.0])
    seen = [number for step in range(pipeline.steps(1)) for number in numbers_of(pipeline.batch(step))]
    assert len(seen) == 40 and sum(number < 10 for number in seen) == 20


def test_single_puts_one_group_in_a_row():
    pipeline = Pipeline([groups(20)], SHAPE, packing="single")
    assert all(len(row) <= 1 for step in range(pipeline.steps(1)) for row in pipeline.rows(step))


@pytest.mark.parametrize("packing", ["pack", "single"])
def test_fit_shape_fits(packing):
    some = groups(50)
    shape = fit_shape(some, rows=4, tokens=40, packing=packing)
    assert (shape.rows, shape.tokens) == (4, 40) and (packing == "pack") == (shape.responses > 2)
    Pipeline([some], shape, packing=packing).batch(0)
    assert fit_shape(some, rows=4).tokens == max(group.size[0] for group in some)


def test_invalid_hosts_groups_and_weights_are_refused():
    with pytest.raises(ValueError, match="8 rows a batch cannot be shared equally by 3 hosts"):
        Pipeline([groups(4)], SHAPE, hosts=3)
    with pytest.raises(ValueError, match="no group to make batches of"):
        Pipeline([[]], SHAPE)
    with pytest.raises(ValueError, match="weights=.*must be one positive number"):
        Pipeline([groups(4)], SHAPE, weights=[0.0])
    with pytest.raises(ValueError, match=r"^f:\d: a group of .* is larger than a row of \(9, 8, 6\)"):
        Pipeline([groups(9)], BatchShape(8, 9, 8, 6))


def test_prepare_reads_merges_encodes_splits(tmp_path, make_tokenizer):
    path = tmp_path / "p.jsonl"
    path.write_text("".join(f'{{"prompt": "Q", "chosen": "a{n}", "rejected": "a{n + 1}"}}\n' for n in range(9)))
    chat = ChatFormat(make_tokenizer("chatml"))
    prepared = prepare([str(path), "builtin:letters"], chat, max_length=200, max_responses=4)
    assert [len(source) for source in prepared.sources] == [3, 6]
    numbers = [c.number for source in prepared.sources for group in source for c in group.comparisons]
    assert sorted(numbers) == list(range(33)) and len(prepared.places) == 33
    assert prepared.places[4] == f"{path}:5" and prepared.places[9] == "builtin:letters[0]"
    assert (prepared.report.groups, prepared.report.comparisons) == (7, 33)
    path.write_text('{"prompt": "Q", "chosen": "a", "rejected": "a"}\n')
    with pytest.raises(ValueError, match="p.jsonl: every comparison is between equal texts"):
        prepare([str(path)], chat, max_length=200)
