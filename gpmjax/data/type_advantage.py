"""Intransitive preferences by a rule that generalises: creatures have one or two types, and types attack types.

Of two creatures, the one whose best attack has the higher multiplier wins. Pairs with equal multipliers are undecided
and left out. The rule has cycles (fire, water, grass), so no scalar score represents it. It depends only on types, so
it generalises to unseen creatures. Training pairs and held-out pairs are made of disjoint sets of creatures.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gpmjax.data.groups import Comparison, Group, user
from gpmjax.data.packing import permutation

PROMPT = "Two creatures meet in battle. Which of them has the type advantage?"


class Species(NamedTuple):
    """A creature and its types, main type first."""

    name: str
    types: tuple[str, ...]

    @property
    def description(self) -> str:
        """The response that names the creature.

        >>> Species("Bulbasaur", ("Grass", "Poison")).description
        'Bulbasaur, a Grass and Poison type'
        """
        article = "an" if self.types[0][0] in "AEIOU" else "a"
        return f"{self.name}, {article} {' and '.join(self.types)} type"


class Rule(NamedTuple):
    """Species, and the multipliers of their best attacks on each other."""

    species: tuple[Species, ...]
    multiplier: np.ndarray
    """[S, S]; [i, j] is the multiplier of species i's best attack on species j."""


def load_rule(species_file: str | Path, matrix_file: str | Path) -> Rule:
    """Reads the rule from two JSON files: [{"name", "types"}] and {"combos": [[type, …]], "best_multiplier": [[…]]}.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a field is missing, or a species has a combination of types that the matrix lacks.
    """
    creatures, table = _load(species_file), _load(matrix_file)
    try:
        species = tuple(Species(c["name"], tuple(c["types"])) for c in creatures)
        place = {tuple(combination): i for i, combination in enumerate(table["combos"])}
        multiplier = np.array(table["best_multiplier"], np.float64)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{species_file}, {matrix_file}: not species and matrix ({error!r})") from error
    for one in species:
        if one.types not in place:
            raise ValueError(f"{matrix_file}: field 'combos': lacks {list(one.types)}, the types of {one.name}")
    if multiplier.shape != (len(place), len(place)):
        raise ValueError(
            f"{matrix_file}: field 'best_multiplier': must be [{len(place)}, {len(place)}], is {multiplier.shape}"
        )
    index = [place[one.types] for one in species]
    return Rule(species, multiplier[np.ix_(index, index)])


def split_pairs(
    rule: Rule, *, train_pairs: int, dev_pairs: int, dev_share: float = 0.2, seed: int = 0
) -> tuple[list[Group], list[Group]]:
    """(train, dev): random decided pairs of two disjoint sets of species, one pair in each group.

    Raises:
        ValueError: there are fewer decided pairs than asked for, or a set has fewer than 2 species.
    """
    count = len(rule.species)
    held_out = round(count * dev_share)
    if not 2 <= held_out <= count - 2:
        raise ValueError(f"dev_share={dev_share}: holds out {held_out} of {count} species; both sets need at least 2")
    order = permutation(count, seed, 0)
    dev, train = order[:held_out], order[held_out:]
    return _pairs(rule, train, train_pairs, seed, "train_pairs"), _pairs(rule, dev, dev_pairs, seed, "dev_pairs")


def among(rule: Rule, names: Sequence[str]) -> Rule:
    """The rule restricted to the species of these names, in this order.

    Raises:
        ValueError: no species has a name, or there are fewer than two names.
    """
    place = {one.name: n for n, one in enumerate(rule.species)}
    members = []
    for name in dict.fromkeys(names):
        if name not in place:
            raise ValueError(
                f"{name!r}: no species of this name; there are {len(place)}, such as {', '.join(sorted(place)[:3])}"
            )
        members.append(place[name])
    if len(members) < 2:
        raise ValueError(f"{len(members)} species: must be at least 2 to make a pair")
    return Rule(tuple(rule.species[n] for n in members), rule.multiplier[np.ix_(members, members)])


def all_pairs(rule: Rule) -> list[Group]:
    """Every decided pair of species, one pair in each group, in the species' order.

    Raises:
        ValueError: no pair is decided.
    """
    winner, loser = np.nonzero(rule.multiplier > rule.multiplier.T)
    if not len(winner):
        raise ValueError(f"{len(rule.species)} species: no pair is decided, all multipliers are equal")
    return [_pair([rule.species[i].description for i in pair]) for pair in zip(winner, loser, strict=True)]


def _pairs(rule: Rule, members: np.ndarray, wanted: int, seed: int, name: str) -> list[Group]:
    ahead = rule.multiplier[np.ix_(members, members)]
    winner, loser = np.nonzero(ahead > ahead.T)
    if not 0 < wanted <= len(winner):
        raise ValueError(f"{name}={wanted}: must be in [1, {len(winner)}], the decided pairs of {len(members)} species")
    drawn = permutation(len(winner), seed, 1, len(members))[:wanted]
    return [_pair([rule.species[members[i]].description for i in (winner[n], loser[n])]) for n in drawn]


def _pair(sides: Sequence[str]) -> Group:
    return Group(user(PROMPT), tuple(sides), (Comparison(0, 1),))


def _load(file: str | Path):
    try:
        return json.loads(Path(file).read_text(encoding="utf-8-sig"))
    except RecursionError as error:
        raise ValueError(f"{file}: cannot be read as JSON (lists or objects nested too deeply)") from error
    except ValueError as error:
        raise ValueError(f"{file}: not valid JSON ({error})") from error
