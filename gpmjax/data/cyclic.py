"""Small games with known preferences: the source's cyclic sets, and a transitive set for contrast.

`bt_ceiling` is the best accuracy of any scalar score on a set of comparisons. A Bradley–Terry model gives each response
one number, so it can only order them. On an n-cycle the best order gets n − 1 of n comparisons right.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from gpmjax.data.groups import Comparison, Group, user

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LETTER_GROUP_SIZE, LETTER_GROUPS = 4, 6

MAX_COMPONENT = 16
"""Largest strongly connected component that ``bt_ceiling`` orders exactly; time and memory grow as 2ⁿ."""


def cycle(items: Sequence[str], prompt: str) -> Group:
    """items[0] ≻ items[1] ≻ … ≻ items[n−1] ≻ items[0]."""
    if len(items) < 3 or len(set(items)) != len(items):
        raise ValueError(f"items={items!r}: a cycle needs at least 3 different items")
    following = [(i, (i + 1) % len(items)) for i in range(len(items))]
    return Group(user(prompt), tuple(items), tuple(Comparison(i, j) for i, j in following))


def chain(items: Sequence[str], prompt: str) -> Group:
    """items[i] ≻ items[j] for every i < j."""
    if len(items) < 2 or len(set(items)) != len(items):
        raise ValueError(f"items={items!r}: a transitive game needs at least 2 different items")
    pairs = itertools.combinations(range(len(items)), 2)
    return Group(user(prompt), tuple(items), tuple(Comparison(i, j) for i, j in pairs))


def letters() -> list[Group]:
    """The source's six groups of four letters, A ≻ B ≻ C ≻ D ≻ A up to U ≻ V ≻ W ≻ X ≻ U.

    >>> letters()[0].prompt[0].content, len(letters())
    ('Which character do you prefer? Choose one from [A, B, C, D].', 6)
    """
    size = LETTER_GROUP_SIZE
    return [cycle(c, _which_character(c)) for c in (ALPHABET[i * size : (i + 1) * size] for i in range(LETTER_GROUPS))]


def n_cycle(n: int = 4) -> list[Group]:
    """One cycle of the first n letters."""
    return [cycle(ALPHABET[: _letter_count(n, least=3)], _which_character(ALPHABET[:n]))]


def transitive(n: int = 3) -> list[Group]:
    """The source's transitive game on the numbers 1 … n: n ≻ … ≻ 2 ≻ 1, with all pairs."""
    if n < 2:
        raise ValueError(f"n={n}: must be at least 2")
    numbers = [str(i) for i in range(n, 0, -1)]
    return [chain(numbers, f"Which number do you prefer? Choose one from [{', '.join(reversed(numbers))}].")]


def rock_paper_scissors() -> list[Group]:
    """Rock ≻ scissors ≻ paper ≻ rock."""
    return [cycle(("rock", "scissors", "paper"), "Which do you play? Choose one from [rock, paper, scissors].")]


GAMES: dict[str, Callable[..., list[Group]]] = {
    "letters": letters,
    "transitive": transitive,
    "rock_paper_scissors": rock_paper_scissors,
    "n_cycle": n_cycle,
}
"""The games that a source ``builtin:NAME`` (or ``builtin:NAME?n=5``) can name."""


def _which_character(characters: Sequence[str]) -> str:
    return f"Which character do you prefer? Choose one from [{', '.join(characters)}]."


def _letter_count(n: int, least: int) -> int:
    if not least <= n <= len(ALPHABET):
        raise ValueError(f"n={n}: must be in [{least}, {len(ALPHABET)}]")
    return n


def bt_ceiling(groups: Iterable[Group]) -> float:
    """The highest accuracy that any scalar score r(response | prompt) can reach; exact.

    It is the maximum over r of the share of comparisons with r(winner) > r(loser). Ties (target ½) are left out.
    A comparison between two strongly connected components of the "beats" graph can always be satisfied. Inside a
    component, dynamic programming over subsets finds the best order: f(S) = max over i ∈ S of f(S∖i) + |{j ∈ S∖i : i
    beats j}|.

    >>> bt_ceiling(letters()), bt_ceiling(rock_paper_scissors()), bt_ceiling(transitive())
    (0.75, 0.666..., 1.0)

    Raises:
        ValueError: there is no comparison with a winner, or a component has more than MAX_COMPONENT responses.
    """
    wins = defaultdict(lambda: defaultdict(int))  # prompt → (winner's text, loser's text) → how often
    for group in groups:
        for comparison in group.comparisons:
            if comparison.winner is not None:
                loser = comparison.chosen + comparison.rejected - comparison.winner
                wins[group.prompt][group.responses[comparison.winner], group.responses[loser]] += 1
    total = sum(sum(counts.values()) for counts in wins.values())
    if not total:
        raise ValueError("no comparison has a winner, so there is no accuracy to bound")
    return sum(_kept(counts) for counts in wins.values()) / total


def _kept(counts: dict[tuple[str, str], int]) -> int:
    """How many comparisons of one prompt the best order satisfies."""
    texts = sorted({text for pair in counts for text in pair})
    place = {text: i for i, text in enumerate(texts)}
    winner, loser = (np.array([place[pair[side]] for pair in counts]) for side in (0, 1))
    count = np.array(list(counts.values()))
    graph = coo_array((count, (winner, loser)), shape=(len(texts), len(texts)))
    _, component = connected_components(graph, connection="strong")
    kept = int(count[component[winner] != component[loser]].sum())
    for label in np.unique(component):
        members = np.flatnonzero(component == label)
        if len(members) > MAX_COMPONENT:
            raise ValueError(
                f"{len(members)} responses to one prompt form one component of cycles; must be at most {MAX_COMPONENT} "
                "to be ordered exactly"
            )
        if len(members) > 1:
            kept += _best_order(graph.toarray()[np.ix_(members, members)])
    return kept


def _best_order(wins: np.ndarray) -> int:
    """The maximum over all orders of Σ wins[i, j] with i before j; ``wins`` is [n, n]."""
    n = len(wins)
    best = np.zeros(1 << n, np.int64)
    subset = np.arange(1 << n)
    inside = (subset[:, None] >> np.arange(n)) & 1  # [2ⁿ, n]
    gain = inside @ wins.T  # [2ⁿ, n]: i's wins against the subset
    for size in range(1, n + 1):
        here = subset[inside.sum(axis=1) == size]
        for i in range(n):
            chosen = here[inside[here, i] == 1]
            rest = chosen ^ (1 << i)
            best[chosen] = np.maximum(best[chosen], best[rest] + gain[rest, i])
    return int(best[-1])
