"""Merges pairs into groups, so that each distinct response is encoded once; splits groups that do not fit a row."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from gpmjax.data.encode import EncodedGroup
from gpmjax.data.groups import Group

SECTIONS = ("subset", "group", "config", "domain")
"""Tags that results are broken down by; groups that differ in one of them are not merged."""


def merge_groups(groups: Iterable[Group], *, sections: Sequence[str] = SECTIONS) -> list[Group]:
    """Merges groups of the same prompt (and sections) into one, with each distinct response text once.

    Every comparison is kept, including contradictions and repetitions. A tag is kept if all merged groups agree on it.

    >>> from gpmjax.data.groups import Comparison, user
    >>> pair = lambda chosen, rejected: Group(user("?"), (chosen, rejected), (Comparison(0, 1),))
    >>> (group,) = merge_groups([pair("a", "b"), pair("b", "c"), pair("c", "a")])
    >>> group.responses, [(c.chosen, c.rejected) for c in group.comparisons]
    (('a', 'b', 'c'), [(0, 1), (1, 2), (2, 0)])
    """
    merged: dict[tuple, list[Group]] = {}
    for group in groups:
        key = (group.prompt, tuple(group.tags.get(section) for section in sections))
        merged.setdefault(key, []).append(group)
    return [_merge(same) for same in merged.values()]


def _merge(groups: list[Group]) -> Group:
    place: dict[str, int] = {}
    comparisons = []
    for group in groups:
        index = [place.setdefault(text, len(place)) for text in group.responses]
        comparisons += [c._replace(chosen=index[c.chosen], rejected=index[c.rejected]) for c in group.comparisons]
    first = groups[0]
    tags = {name: v for name, v in first.tags.items() if all(group.tags.get(name) == v for group in groups)}
    return dataclasses.replace(first, responses=tuple(place), comparisons=tuple(comparisons), tags=tags)


def weigh_groups_alike(group: EncodedGroup) -> EncodedGroup:
    """The group with its comparisons' weights scaled to a sum of 1; weights that are all 0 stay 0.

    Call this before ``split_group``, so that the pieces of a group together have the weight of one group.

    >>> from gpmjax.data.groups import Comparison
    >>> group = EncodedGroup(np.zeros(1), 0, (np.ones(1),) * 3, (Comparison(0, 1, weight=3.0), Comparison(1, 2)))
    >>> [comparison.weight for comparison in weigh_groups_alike(group).comparisons]
    [0.75, 0.25]
    """
    total = sum(comparison.weight for comparison in group.comparisons) or 1.0
    scaled = tuple(comparison._replace(weight=comparison.weight / total) for comparison in group.comparisons)
    return group._replace(comparisons=scaled)


def split_group(
    group: EncodedGroup, *, row_length: int, max_responses: int | None = None, max_comparisons: int | None = None
) -> list[EncodedGroup]:
    """The group itself if it fits a row, otherwise pieces that fit; each comparison is in exactly one piece.

    A response can be in several pieces. To repeat few, a piece grows greedily by the response that completes the most
    comparisons. Responses without a comparison are left out, unless the group has no comparison at all.

    Raises:
        ValueError: a pair (or, without comparisons, one response) is too large for a row.
    """
    limits = (row_length, _or_unlimited(max_responses), _or_unlimited(max_comparisons))
    if all(size <= limit for size, limit in zip(group.size, limits, strict=True)):
        return [group]
    if not group.comparisons:
        return [_part(group, members, []) for members in _runs(group, limits)]
    pieces = []
    chosen, rejected = (np.array([getattr(c, side) for c in group.comparisons]) for side in ("chosen", "rejected"))
    left = np.arange(len(group.comparisons))
    while len(left):
        members = _grow(group, chosen[left], rejected[left], limits)
        inside = left[np.isin(chosen[left], members) & np.isin(rejected[left], members)][: limits[2]]
        used = np.union1d(chosen[inside], rejected[inside]).tolist()
        pieces.append(_part(group, used, inside.tolist()))
        left = np.setdiff1d(left, inside)
    return pieces


def _or_unlimited(limit: int | None) -> int:
    return np.iinfo(np.int64).max if limit is None else limit


def _grow(group: EncodedGroup, chosen: np.ndarray, rejected: np.ndarray, limits: tuple[int, int, int]) -> list[int]:
    """Responses of the next piece: the first comparison's two, then the one that completes the most comparisons."""
    lengths = np.array([len(response) for response in group.responses])
    follows = np.array([not group.own(index) for index in range(len(lengths))])  # no own prompt
    members = [int(chosen[0]), int(rejected[0])]
    room = limits[0] - group.slots(dict.fromkeys(members))
    if room < 0 or limits[1] < 2:
        raise ValueError(
            f"{group.where}: a pair takes {limits[0] - room} tokens, a row has {limits[0]} (and {limits[1]} responses)"
            "; raise row_length; twice max_length is always enough"
        )
    inside = np.zeros(len(lengths), bool)
    inside[members] = True
    while len(members) < limits[1] and np.sum(inside[chosen] & inside[rejected]) < limits[2]:
        gain = np.bincount(rejected[inside[chosen]], minlength=len(lengths))
        gain += np.bincount(chosen[inside[rejected]], minlength=len(lengths))
        prompt = (
            0 if follows[members].any() else len(group.prompt)
        )  # the first response that follows the prompt adds it
        gain[inside | (lengths + follows * prompt > room)] = 0
        best = int(gain.argmax())
        if not gain[best]:
            break
        members.append(best)
        inside[best] = True
        room -= int(lengths[best] + follows[best] * prompt)
    return members


def _runs(group: EncodedGroup, limits: tuple[int, int, int]) -> list[list[int]]:
    """Splits the responses into runs, in order; each run has as many as fit a row."""
    runs: list[list[int]] = []
    for index in range(len(group.responses)):
        if not runs or len(runs[-1]) == limits[1] or group.slots([*runs[-1], index]) > limits[0]:
            runs.append([])
        runs[-1].append(index)
        if (taken := group.slots(runs[-1])) > limits[0]:
            raise ValueError(f"{group.where}: prompt and response take {taken} tokens, a row has {limits[0]}")
    return runs


def _part(group: EncodedGroup, members: Sequence[int], comparisons: Sequence[int]) -> EncodedGroup:
    place = {member: index for index, member in enumerate(members)}
    kept = (group.comparisons[index] for index in comparisons)
    return group.take(members, [c._replace(chosen=place[c.chosen], rejected=place[c.rejected]) for c in kept])
