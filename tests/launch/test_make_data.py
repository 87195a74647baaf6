"""`python launch/make_data.py` from the command line: every kind writes files that are read back as requested."""

import json

import pytest

from gpmjax.data.cyclic import bt_ceiling
from gpmjax.data.group_files import read_groups
from tests.launch.programs import run_program


def make_data(*flags):
    return run_program("launch/make_data.py", *flags)


@pytest.mark.parametrize(
    "kind, flags, ceiling", [("letters", [], 0.75), ("n_cycle", ["--n=5"], 0.8), ("transitive", [], 1.0)]
)
def test_a_game_has_its_scalar_ceiling(tmp_path, kind, flags, ceiling):
    done = make_data(f"--kind={kind}", f"--out={tmp_path}/deep/g.jsonl.gz", *flags)
    assert done.returncode == 0, done.stderr
    assert bt_ceiling(read_groups(f"{tmp_path}/deep/g.jsonl.gz")) == ceiling


def test_several_sets_are_written_under_their_names(tmp_path):
    aspects = ("instruction_following", "honesty", "truthfulness", "helpfulness")
    completions = [
        {"response": f"r{i}", "ratings": {a: 5 if i == n else 1 for n, a in enumerate(aspects)}} for i in range(4)
    ]
    (tmp_path / "u.jsonl").write_text(json.dumps({"instruction": "Q", "completions": completions}) + "\n")
    done = make_data("--kind=aspect_cycles", f"--input={tmp_path}/u.jsonl", f"--out={tmp_path}/c.jsonl")
    assert done.returncode == 0, done.stderr
    names = {path.name for path in tmp_path.glob("c_*.jsonl")}
    assert names == {f"c_no_{aspect}.jsonl" for aspect in aspects}
    assert all(bt_ceiling(read_groups(str(tmp_path / name))) == pytest.approx(2 / 3) for name in names)


def test_type_advantage_pairs_are_drawn_or_made_of_names(tmp_path):
    types = ["Fire", "Water", "Grass"]
    (tmp_path / "s.json").write_text(json.dumps([{"name": f"{t}{n}", "types": [t]} for t in types for n in range(5)]))
    matrix = {"combos": [[t] for t in types], "best_multiplier": [[1, 0, 2], [2, 1, 0], [0, 2, 1]]}
    (tmp_path / "m.json").write_text(json.dumps(matrix))
    flags = [
        f"--species={tmp_path}/s.json",
        f"--matrix={tmp_path}/m.json",
        f"--out={tmp_path}/t.jsonl",
        "--dev_share=0.4",
    ]
    done = make_data("--kind=type_advantage", *flags, "--train_pairs=12", "--dev_pairs=3")
    assert done.returncode == 0, done.stderr
    assert [len(read_groups(f"{tmp_path}/t_{part}.jsonl")) for part in ("train", "dev")] == [12, 3]
    (tmp_path / "n.txt").write_text("Water1\n\nFire2\nFire0\nGrass3\n", encoding="utf-8-sig")
    done = make_data("--kind=type_advantage", *flags, f"--names={tmp_path}/n.txt")
    pairs = [tuple(text.split(",")[0] for text in group.responses) for group in read_groups(f"{tmp_path}/t.jsonl")]
    assert done.returncode == 0 and pairs == [
        ("Water1", "Fire2"), ("Water1", "Fire0"), ("Fire2", "Grass3"), ("Fire0", "Grass3"), ("Grass3", "Water1")
    ]  # fmt: skip
    (tmp_path / "n.txt").write_text("Fire2\nFire9\n")
    done = make_data("--kind=type_advantage", *flags, f"--names={tmp_path}/n.txt")
    assert done.returncode == 1
    message = "'Fire9': no species of this name; there are 15, such as Fire0, Fire1, Fire2"
    assert done.stderr == f"error: {tmp_path}/n.txt: {message}\n"


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--kind=letters", "--n=3"], "--kind=letters: has one size and takes no --n"),
        (["--kind=aspect_cycles"], "--kind=aspect_cycles: needs --input"),
    ],
)
def test_errors_are_one_line(tmp_path, flags, message):
    done = make_data(*flags, f"--out={tmp_path}/x.jsonl")
    assert done.returncode == 1 and done.stderr == f"error: {message}\n" and not list(tmp_path.iterdir())
