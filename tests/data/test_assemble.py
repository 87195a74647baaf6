"""Rows become arrays from which the groups can be read back, wherever they are in a row."""

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from gpmjax.data.assemble import BatchShape, assemble, assemble_features
from gpmjax.data.encode import EncodedGroup
from gpmjax.data.groups import Comparison

SHAPE = BatchShape(rows=3, tokens=60, responses=8, comparisons=9)
IDS = st.lists(st.integers(0, 9), min_size=1, max_size=4).map(lambda ids: np.array(ids, np.int32))
LABEL = st.builds(
    Comparison,
    chosen=st.integers(0, 1),
    rejected=st.integers(0, 1),
    target=st.sampled_from([1.0, 0.5, 0.0]),
    margin=st.just(0.5),
    weight=st.just(2.0),
    number=st.integers(0, 99),
)


def encoded(prompt, back, responses, labels):
    """A group whose gate is ``back`` tokens before the prompts' ends; a response may have its own prompt."""
    back = min(back, *(len(ids) for ids in (prompt, *(own for own, _ in responses if len(own)))))
    own = tuple(len(own) for own, _ in responses)
    joined = tuple(np.concatenate([own, ids]).astype(np.int32) for own, ids in responses)
    return EncodedGroup(prompt, len(prompt) - back, joined, tuple(labels), own_prompt=own if any(own) else ())


RESPONSE = st.tuples(st.just(np.zeros(0, np.int32)) | IDS, IDS)
GROUP = st.builds(
    encoded, IDS, st.integers(1, 4), st.lists(RESPONSE, min_size=2, max_size=3), st.lists(LABEL, max_size=4)
).filter(lambda group: 0 in (group.own_prompt or (0,)))
ROWS = st.lists(st.lists(GROUP, max_size=2), min_size=3, max_size=3)


def sequences(row):
    """(prompt + response, index of the gate, group, index of the response) of each response in a row."""
    found = []
    for group in row:
        for k in range(len(group.responses)):
            prompt, gate, response = group.sequence(k)
            found.append((np.concatenate([prompt, response]), gate, group, k))
    return found


@given(rows=ROWS)
def test_layout_gives_back_every_sequence(rows):
    batch = assemble(rows, SHAPE)
    for b, row in enumerate(rows):
        wanted = sequences(row)
        assert batch.response_mask[b].tolist() == [r < len(wanted) for r in range(SHAPE.responses)]
        for r, (ids, gate, group, k) in enumerate(wanted):
            end = batch.response_end[b, r]
            of_group = batch.layout.group[b] == batch.layout.group[b, end]
            own = of_group & np.isin(batch.layout.response[b], (0, r + 1))
            assert batch.tokens[b, own].tolist() == ids.tolist()
            assert batch.layout.positions[b, own].tolist() == list(range(len(ids)))
            assert batch.layout.positions[b, end] == len(ids) - 1
            assert batch.prompt_end[b, r] == np.flatnonzero(own)[gate]
            walk = [end]
            while batch.previous[b, walk[-1]] != walk[-1]:
                walk.append(batch.previous[b, walk[-1]])
            assert walk[::-1] == np.flatnonzero(own).tolist()
            spoken = batch.layout.response[b] == r + 1
            assert spoken.sum() == len(group.sequence(k)[2])
            wins = any(c.winner == k for c in group.comparisons)
            assert set(batch.lm_weight[b, spoken]) == {float(wins)}
        padding = batch.layout.group[b] == 0
        assert padding.sum() == SHAPE.tokens - sum(group.size[0] for group in row)
        assert not batch.lm_weight[b, padding].any() and not batch.lm_weight[b, batch.layout.response[b] == 0].any()


@given(rows=ROWS)
def test_comparisons_point_at_their_responses(rows):
    batch = assemble(rows, SHAPE)
    for b, row in enumerate(rows):
        found, texts = batch.comparisons, [ids.tolist() for ids, *_ in sequences(row)]
        wanted = [(c, g) for g in row for c in g.comparisons]
        assert found.weight[b].tolist() == [c.weight for c, _ in wanted] + [0.0] * (SHAPE.comparisons - len(wanted))
        assert set(found.number[b, len(wanted) :]) <= {-1}
        for n, (c, group) in enumerate(wanted):
            for side in ("chosen", "rejected"):
                whole = np.concatenate(group.sequence(getattr(c, side))[::2]).tolist()
                assert texts[getattr(found, side)[b, n]] == whole
            assert (found.target[b, n], found.margin[b, n], found.number[b, n]) == (c.target, c.margin, c.number)


def test_shapes_and_dtypes_do_not_depend_on_the_rows():
    assert [*_leaves(assemble([[], [], []], SHAPE))] == [*_leaves(assemble([[_group()], [], []], SHAPE))]


def _leaves(batch):
    for field in batch:
        yield from _leaves(field) if isinstance(field, tuple) else [f"{field.shape} {field.dtype}"]


def _group():
    return EncodedGroup(np.array([1, 2]), 1, (np.array([3]), np.array([4, 5])), (Comparison(1, 0, number=7),))


def test_features_have_the_responses_slots():
    rows = [[_group(), _group()], [], [_group()]]

    def hidden(group):
        return np.array([[len(ids), 1.0] for ids in group.responses]), np.array([9.0, 9.0])

    features = assemble_features(rows, SHAPE, hidden, hidden_size=2)
    tokens = assemble(rows, SHAPE)
    assert features.response[0, :5, 0].tolist() == [1, 2, 1, 2, 0] and features.prompt[2, :3, 0].tolist() == [9, 9, 0]
    assert features.response.shape == (3, 8, 2) and features.response.dtype == np.float32
    np.testing.assert_array_equal(features.response_mask, tokens.response_mask)
    np.testing.assert_array_equal(features.comparisons.chosen, tokens.comparisons.chosen)
