"""Merging and splitting groups keep every comparison unchanged."""

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from gpmjax.data.encode import EncodedGroup
from gpmjax.data.grouping import merge_groups, split_group, weigh_groups_alike
from gpmjax.data.groups import Comparison, Group, user

LABELS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 1)), min_size=1, max_size=20)


def said(groups):
    """The comparisons with their texts, which merging must keep."""
    labels = ((group, c) for group in groups for c in group.comparisons)
    return sorted((c.number, g.prompt, g.responses[c.chosen], g.responses[c.rejected]) for g, c in labels)


@given(labels=LABELS)
def test_merge_keeps_every_comparison_and_each_text_once(labels):
    pairs = [Group(user(str(p)), (str(i), str(j)), (Comparison(0, 1, number=n),)) for n, (i, j, p) in enumerate(labels)]
    merged = merge_groups(pairs)
    assert said(merged) == said(pairs)
    assert len({group.prompt for group in merged}) == len(merged)
    assert all(len(set(group.responses)) == len(group.responses) for group in merged)
    assert merge_groups(merged) == merged


def test_sections_are_not_merged_and_common_tags_are_kept():
    def pair(**tags):
        return Group(user("Q"), ("a", "b"), (Comparison(0, 1),), tags)

    groups = merge_groups(
        [pair(subset="x", id=1, source="s"), pair(subset="y", id=2), pair(subset="x", id=3, source="s")]
    )
    assert [dict(group.tags) for group in groups] == [{"subset": "x", "source": "s"}, {"subset": "y", "id": 2}]
    assert len(merge_groups([pair(subset="x"), pair(subset="y")], sections=())) == 1


def encoded(lengths, labels, prompt=3, own=()):
    """Responses of ``lengths`` tokens after a prompt of 3; where ``own`` is not 0 it is the length of an own prompt."""
    behind = [np.full(size, 99, np.int32) for size in own or [0] * len(lengths)]
    responses = tuple(
        np.concatenate([b, np.full(length, n, np.int32)])
        for n, (b, length) in enumerate(zip(behind, lengths, strict=True))
    )
    comparisons = tuple(Comparison(i, j, number=n) for n, (i, j) in enumerate(labels))
    return EncodedGroup(
        np.full(prompt, 99, np.int32), prompt - 1, responses, comparisons, {}, "f:9", (), tuple(own) if any(own) else ()
    )


@given(
    lengths=st.lists(st.integers(1, 10), min_size=6, max_size=6),
    labels=st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 5)).filter(lambda pair: pair[0] != pair[1]), max_size=25
    ),
    row_length=st.integers(23, 40),
    max_responses=st.none() | st.integers(2, 4),
    max_comparisons=st.none() | st.integers(1, 4),
    own=st.lists(st.sampled_from([0, 1, 2]), min_size=6, max_size=6),
)
def test_pieces_fit_and_hold_every_comparison_once(lengths, labels, row_length, max_responses, max_comparisons, own):
    group = encoded(lengths, labels, own=own)
    limits = dict(row_length=row_length, max_responses=max_responses, max_comparisons=max_comparisons)
    pieces = split_group(group, **limits)
    for piece in pieces:
        tokens, responses, comparisons = piece.size
        assert tokens <= row_length and responses <= (max_responses or 6) and comparisons <= (max_comparisons or 25)
        assert tokens == len(piece.prompt) + sum(map(len, piece.responses)) or piece is group
        for n in range(responses):  # each response keeps its prompt
            prompt, _, response = piece.sequence(n)
            assert (
                len(prompt) == (own[response[0]] or 3) and len(response) == lengths[response[0]] and set(prompt) == {99}
            )
        assert split_group(piece, **limits) == [piece]
    kept = ((piece.responses, c) for piece in pieces for c in piece.comparisons)
    assert sorted((c.number, int(r[c.chosen][-1]), int(r[c.rejected][-1])) for r, c in kept) == [
        (n, i, j) for n, (i, j) in enumerate(labels)
    ]
    if not labels:
        assert sorted(int(r[-1]) for p in pieces for r in p.responses) == list(range(6))


@given(
    weights=st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=36, max_size=36),
    max_responses=st.none() | st.integers(2, 9),
    max_comparisons=st.none() | st.integers(1, 36),
)
def test_weights_scaled_before_splitting_add_up_to_one_over_the_pieces(weights, max_responses, max_comparisons):
    """Nine responses with all pairs compared and unequal weights, some of them 0; ratios of weights are kept."""
    group = encoded([1] * 9, list(itertools.combinations(range(9), 2)))
    given = tuple(c._replace(weight=w) for c, w in zip(group.comparisons, weights, strict=True))
    limits = dict(row_length=40, max_responses=max_responses, max_comparisons=max_comparisons)
    pieces = split_group(weigh_groups_alike(group._replace(comparisons=given)), **limits)
    found = {c.number: c.weight for piece in pieces for c in piece.comparisons}
    total = sum(weights)
    assert sum(found.values()) == pytest.approx(1.0 if total else 0.0)
    assert [found[n] for n in range(36)] == pytest.approx([w / (total or 1.0) for w in weights])


def test_the_groups_prompt_takes_room_as_soon_as_a_response_follows_it():
    pieces = split_group(encoded([5, 5, 5], [(0, 1), (1, 2)], own=[1, 1, 0]), row_length=18)
    assert [piece.size for piece in pieces] == [(11, 2, 1), (14, 2, 1)]  # equal prompts are laid out once
    assert [
        piece.size for piece in split_group(encoded([5, 5, 5], [(0, 1), (1, 2)], own=[1, 1, 0]), row_length=20)
    ] == [(20, 3, 2)]


def test_a_group_that_fits_is_not_split():
    group = encoded([2, 2, 2], [(0, 1)])
    assert split_group(group, row_length=9) == [group]


def test_a_piece_may_fill_a_row_to_the_last_token():
    """A prompt of 3 and responses of 4, 5 and 6 fill a row of 18; shorter rows hold one pair each."""
    triangle = encoded([4, 5, 6], [(0, 1), (1, 2), (2, 0)])
    assert [piece.size for piece in split_group(triangle, row_length=18)] == [(18, 3, 3)]
    assert [piece.size for piece in split_group(triangle, row_length=17)] == [(12, 2, 1), (14, 2, 1), (13, 2, 1)]
    # The first pair leaves room for 6 tokens. The third response fits exactly, the fourth is too long by one token.
    star = encoded([4, 5, 6, 7], [(0, 1), (0, 2), (0, 3)])
    assert [piece.size for piece in split_group(star, row_length=18)] == [(18, 3, 2), (14, 2, 1)]
    assert [piece.size for piece in split_group(encoded([4, 5], [(0, 1)] * 3), row_length=12, max_comparisons=2)] == [
        (12, 2, 2),
        (12, 2, 1),
    ]
    # Without comparisons, pieces are consecutive responses: 3 + 4 + 5 fills a row of 12, and so does 3 + 9.
    assert [piece.size[:2] for piece in split_group(encoded([4, 5, 9], []), row_length=12)] == [(12, 2), (12, 1)]
    alone = split_group(encoded([1, 1, 1, 1, 1], []), row_length=99, max_responses=2)
    assert [piece.size[1] for piece in alone] == [2, 2, 1]


def test_a_pair_too_long_for_a_row_is_named():
    with pytest.raises(
        ValueError, match=r"^f:9: a pair takes 23 tokens, a row has 20 .*twice max_length is always enough"
    ):
        split_group(encoded([10, 10], [(0, 1)]), row_length=20)
    with pytest.raises(ValueError, match=r"^f:9: prompt and response take 13 tokens, a row has 12"):
        split_group(encoded([10, 1], []), row_length=12)
