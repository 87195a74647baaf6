"""The games have the stated preferences, and the Bradley–Terry ceiling equals that of brute force."""

import itertools

import hypothesis.strategies as st
import pytest
from hypothesis import given

from gpmjax.data.cyclic import GAMES, bt_ceiling, chain, cycle, letters, n_cycle
from gpmjax.data.groups import Comparison, Group, user


def test_letters_are_the_sources_six_groups():
    pairs = ["".join(g.responses[side] for side in (c.chosen, c.rejected)) for g in letters() for c in g.comparisons]
    assert pairs[:8] == ["AB", "BC", "CD", "DA", "EF", "FG", "GH", "HE"] and pairs[-1] == "XU" and len(pairs) == 24


@given(n=st.integers(3, 12))
def test_an_n_cycle_breaks_one_comparison_in_n(n):
    assert bt_ceiling(n_cycle(n)) == pytest.approx((n - 1) / n)
    assert bt_ceiling([chain([str(i) for i in range(n)], "?")]) == 1.0


def test_transitive_and_rock_paper_scissors():
    (game,) = GAMES["transitive"](3)
    assert game.responses == ("3", "2", "1") and len(game.comparisons) == 3
    (game,) = GAMES["rock_paper_scissors"]()
    beats = {(game.responses[c.chosen], game.responses[c.rejected]) for c in game.comparisons}
    assert beats == {("rock", "scissors"), ("scissors", "paper"), ("paper", "rock")}


LABELS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4), st.sampled_from([1.0, 0.0, 0.5])), min_size=1, max_size=14
)


@given(labels=LABELS)
def test_ceiling_equals_brute_force(labels):
    texts = tuple("abcde")
    decided = [(i, j) if t > 0.5 else (j, i) for i, j, t in labels if t != 0.5]
    groups = [Group(user("?"), texts, (Comparison(i, j, t),)) for i, j, t in labels]
    if not decided:
        with pytest.raises(ValueError, match="no comparison has a winner"):
            bt_ceiling(groups)
        return
    best = max(sum(order.index(i) < order.index(j) for i, j in decided) for order in itertools.permutations(range(5)))
    assert bt_ceiling(groups) == pytest.approx(best / len(decided))


def test_the_ceiling_treats_prompts_separately():
    there, back = (Group(user(p), ("a", "b"), (Comparison(*sides),)) for p, sides in (("1", (0, 1)), ("2", (1, 0))))
    assert bt_ceiling([there, back]) == 1.0
    assert bt_ceiling([there, Group(user("1"), ("b", "a"), (Comparison(0, 1),))]) == 0.5


def test_invalid_sizes_are_refused():
    with pytest.raises(ValueError, match="17 responses to one prompt form one component of cycles; must be at most 16"):
        bt_ceiling(n_cycle(17))
    with pytest.raises(ValueError, match=r"n=27: must be in \[3, 26\]"):
        n_cycle(27)
    with pytest.raises(ValueError, match="at least 3 different items"):
        cycle("ABA", "?")
    with pytest.raises(ValueError, match="n=1: must be at least 2"):
        GAMES["transitive"](1)
