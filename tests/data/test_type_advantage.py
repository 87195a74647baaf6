"""Pairs follow the matrix, and training and held-out pairs have no species in common."""

import json

import pytest

from gpmjax.data.cyclic import bt_ceiling
from gpmjax.data.type_advantage import PROMPT, load_rule, split_pairs

TYPES = ["Fire", "Water", "Grass", "Electric"]
# Fire ≻ grass ≻ water ≻ fire; electric is undecided against all.
MULTIPLIER = [[1, 0.5, 2, 1], [2, 1, 0.5, 1], [0.5, 2, 1, 1], [1, 1, 1, 1]]


@pytest.fixture
def files(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_text(json.dumps(content))
        return path

    species = write("species.json", [{"name": f"{t}{n}", "types": [t], "num": n} for t in TYPES for n in range(8)])
    return species, write("matrix.json", {"combos": [[t] for t in TYPES], "best_multiplier": MULTIPLIER}), write


def test_split_and_winners(files):
    rule = load_rule(*files[:2])
    train, dev = split_pairs(rule, train_pairs=50, dev_pairs=10, dev_share=0.4, seed=1)
    assert (len(train), len(dev)) == (50, 10)
    texts = [{text for group in part for text in group.responses} for part in (train, dev)]
    assert not texts[0] & texts[1]
    for group in train + dev:
        winner, loser = (text.split()[-2] for text in group.responses)
        assert MULTIPLIER[TYPES.index(winner)][TYPES.index(loser)] == 2 and group.prompt[0].content == PROMPT
    assert len({group.responses for group in train}) == 50
    assert split_pairs(rule, train_pairs=50, dev_pairs=10, dev_share=0.4, seed=1) == (train, dev)
    assert split_pairs(rule, train_pairs=50, dev_pairs=10, dev_share=0.4, seed=2) != (train, dev)


def test_three_species_of_three_types_are_cyclic(files):
    species = files[2]("three.json", [{"name": t, "types": [t]} for t in TYPES[:3] + TYPES[:3]])
    train, _ = split_pairs(load_rule(species, files[1]), train_pairs=1, dev_pairs=1, dev_share=0.5, seed=3)
    assert bt_ceiling(train) == 1.0


def test_invalid_files_and_sizes_are_refused(files):
    species, matrix, write = files
    with pytest.raises(FileNotFoundError):
        load_rule("nowhere.json", matrix)
    with pytest.raises(ValueError, match="not species and matrix"):
        load_rule(matrix, species)
    with pytest.raises(ValueError, match=r"field 'combos': lacks \['Ice'\], the types of Ice0"):
        load_rule(write("s.json", [{"name": "Ice0", "types": ["Ice"]}]), matrix)
    with pytest.raises(ValueError, match=r"'best_multiplier': must be \[4, 4\]"):
        load_rule(species, write("m.json", {"combos": [[t] for t in TYPES], "best_multiplier": [[1]]}))
    (species.parent / "broken.json").write_text("{")
    with pytest.raises(ValueError, match="broken.json: not valid JSON"):
        load_rule(species.parent / "broken.json", matrix)
    rule = load_rule(species, matrix)
    with pytest.raises(ValueError, match=r"train_pairs=9999: must be in \[1, \d+\], the decided pairs of 26 species"):
        split_pairs(rule, train_pairs=9999, dev_pairs=1)
    with pytest.raises(ValueError, match="dev_share=0.01: holds out 0 of 32 species"):
        split_pairs(rule, train_pairs=1, dev_pairs=1, dev_share=0.01)
