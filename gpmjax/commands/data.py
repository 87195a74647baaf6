r"""Writes generated data sets as JSON lines.

    gpmjax data --kind=letters --out=letters.jsonl
    gpmjax data --kind=n_cycle --n=5 --out=five.jsonl
    gpmjax data --kind=aspect_cycles --input=openbmb/UltraFeedback --out=cycles.jsonl
    gpmjax data --kind=type_advantage --species=species.json --matrix=matrix.json --out=types.jsonl
    gpmjax data --kind=type_advantage --species=species.json --matrix=matrix.json --names=mine.txt \
        --out=mine.jsonl

The last command makes every decided pair of the species in mine.txt, which has one name a line. A kind that makes
several sets adds their names to --out: cycles_no_honesty.jsonl, types_train.jsonl, types_dev.jsonl.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from absl import flags

from gpmjax.data import aspects, cyclic, type_advantage
from gpmjax.data.group_files import Group, write_groups
from gpmjax.data.sources import read_entries
from gpmjax.owner import owned_output

Sets = dict[str, list[Group]]


def _aspect_cycles() -> Sets:
    return {name: groups for name, groups in aspects.table1_sets(read_entries(_given(INPUT))).items() if groups}


def _type_advantage() -> Sets:
    rule = type_advantage.load_rule(_given(SPECIES), _given(MATRIX))
    if NAMES.value:
        lines = Path(NAMES.value).read_text(encoding="utf-8-sig").splitlines()
        try:
            return {
                "": type_advantage.all_pairs(
                    type_advantage.among(rule, [line.strip() for line in lines if line.strip()])
                )
            }
        except ValueError as error:
            raise ValueError(f"{NAMES.value}: {error}") from error
    sizes = dict(train_pairs=TRAIN_PAIRS.value, dev_pairs=DEV_PAIRS.value)
    train, dev = type_advantage.split_pairs(rule, **sizes, dev_share=DEV_SHARE.value, seed=SEED.value)
    return {"train": train, "dev": dev}


def _given(flag: flags.FlagHolder) -> str:
    if not flag.value:
        raise ValueError(f"--kind={KIND.value}: needs --{flag.name}")
    return flag.value


def _game(name: str) -> Callable[[], Sets]:
    def make() -> Sets:
        sized = N.value is not None
        if sized and name not in ("n_cycle", "transitive"):
            raise ValueError(f"--kind={name}: has one size and takes no --n")
        return {"": cyclic.GAMES[name](*([N.value] if sized else []))}

    return make


KINDS = {name: _game(name) for name in cyclic.GAMES} | {
    "aspect_cycles": _aspect_cycles,
    "type_advantage": _type_advantage,
}

KIND = flags.DEFINE_enum("kind", None, list(KINDS), "The data set to make.", required=True)
OUT = flags.DEFINE_string("out", None, "The .jsonl or .jsonl.gz file to write.", required=True)
N = flags.DEFINE_integer("n", None, "n_cycle, transitive: number of items.")
INPUT = flags.DEFINE_string("input", None, "aspect_cycles: entries with ratings, a file or a hub id.")
SPECIES = flags.DEFINE_string("species", None, "type_advantage: JSON file of species and their types.")
MATRIX = flags.DEFINE_string("matrix", None, "type_advantage: JSON file of the best multipliers.")
NAMES = flags.DEFINE_string(
    "names", None, "type_advantage: text file with one species name a line; makes all their decided pairs."
)
TRAIN_PAIRS = flags.DEFINE_integer("train_pairs", 20_000, "type_advantage: number of pairs of training species.")
DEV_PAIRS = flags.DEFINE_integer("dev_pairs", 4_000, "type_advantage: number of pairs of held-out species.")
DEV_SHARE = flags.DEFINE_float("dev_share", 0.2, "type_advantage: share of the species that is held out.")
SEED = flags.DEFINE_integer("seed", 0, "type_advantage: seed that chooses held-out species and pairs.")


def _path(name: str) -> Path:
    out = Path(OUT.value)
    stem, dot, suffix = out.name.partition(".jsonl")
    return out.with_name(f"{stem}_{name}{dot}{suffix}") if name else out


def write_comparisons(sets: Sets) -> None:
    """Writes each set to its own file."""
    if not sets:
        raise ValueError(f"{INPUT.value}: no entry's aspects are led by different responses")
    for name, groups in sets.items():
        write_groups(_path(name), groups)
        print(f"{_path(name)}: {len(groups)} groups, {sum(len(group.comparisons) for group in groups)} comparisons")


def main(_: list[str]) -> None:
    """Writes the comparisons that the flags name."""
    try:
        with owned_output(OUT.value, (".jsonl", ".jsonl.gz")):
            write_comparisons(KINDS[KIND.value]())
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
