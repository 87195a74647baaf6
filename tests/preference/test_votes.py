"""Comparisons as arrays do not depend on names or order; labels drawn for the null keep ties and soft labels."""

import numpy as np
import pytest

from gpmjax.preference.votes import blocks, count_rows, redraw

SQUARE = [(0, 1, 1), (1, 2, 1), (2, 3, 0.25), (3, 0, 0.5), (0, 2, 1)]


def same(first, second):
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for a, b in zip(first, second, strict=True)
        for name in ("present", "group", "i", "j", "votes", "wins", "weight", "direction")
    )


def test_names_of_responses_and_the_order_of_groups_do_not_matter():
    names = {0: 17, 1: 3, 2: 90, 3: 4}
    renamed = [(names[i], names[j], t) for i, j, t in SQUARE]
    triangle, order = [(0, 1, 1), (1, 2, 1), (2, 0, 1)], [(0, 1, 1), (1, 2, 1), (0, 2, 1)]
    directions = [np.arange(5.0), np.arange(3.0), np.ones(3)]
    one = blocks([SQUARE, triangle, order], directions=directions)
    assert same(one, blocks([order, triangle, renamed], directions=directions[::-1]))


def test_a_reversed_pair_with_the_opposite_target_is_the_same_record():
    (block,) = blocks([[(0, 1, 1), (1, 2, 1), (0, 2, 0.75)]], directions=[[0.5, 1.0, 2.0]])
    (turned,) = blocks([[(0, 1, 1), (2, 1, 0), (2, 0, 0.25)]], directions=[[0.5, -1.0, -2.0]])
    # Responses are numbered by first mention, which is 0, 1, 2 in both groups.
    assert same([block], [turned])


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ([(0, 1, 1)], 0),  # one pair
        ([(0, 1, 1), (0, 1, 0), (1, 0, 1)], 0),  # voted on often, still one pair
        ([(0, 1, 1), (1, 2, 1), (2, 3, 1)], 0),  # a chain
        ([(0, 1, 1), (1, 2, 1), (2, 0, 1), (2, 3, 1), (3, 4, 1)], 3),
        ([(0, 1, 1), (1, 2, 1), (2, 0, 1), (5, 6, 1), (6, 7, 1), (7, 5, 1)], 6),  # two parts
        ([(0, 1, 1), (1, 2, 1), (2, 0, 1), (2, 2, 1)], 3),  # one response is compared with itself
        ([(0, 1, 1), (1, 2, 1), (2, 0, 1, 0.0)], 0),  # the third pair has weight 0
        ([], 0),
    ],
)
def test_only_comparisons_that_a_cycle_can_pass_are_kept(rows, kept):
    assert sum(len(block.i) for block in blocks([rows])) == kept


def test_groups_of_similar_size_share_a_block():
    triangle = [(0, 1, 1), (1, 2, 1), (2, 0, 1)]
    seven = [(n, (n + 1) % 7, 1) for n in range(7)]
    small, large = blocks([triangle, seven, triangle])
    assert small.present.shape == (2, 3) and large.present.shape == (1, 8) and large.present.sum() == 7


def test_matrices_add_up_the_records_of_a_pair():
    (block,) = blocks([[(0, 1, 1), (1, 0, 1, 3.0), (1, 2, 0.5), (2, 0, 1)]])
    total = block.matrix(block.weight[None], 1)[0, 0]
    assert total.tolist() == [[0, 4, 1], [4, 0, 1], [1, 1, 0]]
    skew = block.matrix((block.weight * (2 * block.wins - 1))[None], -1)[0, 0]
    assert skew.tolist() == [[0, -2, -1], [2, 0, 0], [1, 0, 0]]
    assert block.pick(np.stack([[total]])).tolist() == [[4, 4, 1, 1]]


def test_counts_become_rows():
    votes, wins = np.array([[0, 4, 0], [4, 0, 2], [0, 2, 0]]), np.array([[9, 3, 0], [1, 9, 2], [0, 0, 9]])
    assert count_rows(votes, wins) == [(0, 1, 0.75, 1.0, 4), (1, 2, 1.0, 1.0, 2)]
    with pytest.raises(ValueError, match=r"wins\[i, j\] \+ wins\[j, i\] must be votes"):
        count_rows(votes, wins + 1)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((0, 1, 1.5), r"groups\[1\].comparisons\[2\]: target=1.5: must be in \[0, 1\]"),
        ((0, 1, float("nan")), r"target=nan: must be in \[0, 1\]"),
        ((0, 1, 1, -1), r"weight=-1: must be finite and at least 0"),
        ((0, 1, 1, 1, 0), r"votes=0: must be a whole number"),
        ((0, 1, 0.5, 1, 3), r"target=0.5 of 3 votes is 1.5 votes"),
        ((0, 1), r"2 numbers, must be i, j, target"),
    ],
)
def test_a_wrong_row_is_named(row, message):
    with pytest.raises(ValueError, match=message):
        blocks([[], [(0, 1, 1), (1, 2, 1), row]])


def test_directions_stay_with_their_rows_when_others_are_left_out():
    rows = [(4, 4, 1), (0, 1, 1), (1, 2, 1, 0.0), (1, 2, 1), (9, 0, 1), (2, 0, 1)]
    (block,) = blocks([rows], directions=[[9.0, 1.0, 9.0, 2.0, 9.0, 3.0]])
    assert block.direction.tolist() == [1.0, -3.0, 2.0]


def test_directions_must_fit():
    with pytest.raises(ValueError, match="directions: 0 groups, must be as many as groups, 1"):
        blocks([SQUARE], directions=[])
    with pytest.raises(ValueError, match=r"directions\[0\]: must be one finite number for each"):
        blocks([SQUARE], directions=[[1.0]])


def test_redrawn_labels_follow_the_bradley_terry_model():
    rng = np.random.default_rng(0)
    drawn = redraw(np.full((4000, 3), 1.0), [1.0, 0.0, 0.5], rng)
    assert set(np.unique(drawn[:, :2])) == {0.0, 1.0} and np.all(drawn[:, 2] == 0.5)
    assert drawn[:, :2].mean(0) == pytest.approx([0.731, 0.731], abs=0.02)
    soft = redraw(np.full(4000, 1.0), np.full(4000, 0.75), rng)
    assert set(np.unique(soft)) == {0.25, 0.75} and np.mean(soft == 0.75) == pytest.approx(0.622, abs=0.02)  # σ(½)
    several = redraw(np.full(4000, 1.0), np.full(4000, 0.5), rng, votes=10)
    assert several.mean() == pytest.approx(0.731, abs=0.01) and several.std() == pytest.approx(
        (0.731 * 0.269 / 10) ** 0.5, abs=0.01
    )
