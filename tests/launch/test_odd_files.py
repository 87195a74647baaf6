"""Tables, pages and pictures of damaged files: the error is one line that names the file, and never a traceback."""

import copy
import datetime
import json
import random

import pytest

from gpmjax.evals.metrics import comparison_figures
from gpmjax.reports.page import find_chapters, render_page
from gpmjax.reports.paper_tables import paper_tables, read_results
from gpmjax.reports.plots import draw_folders

MODEL = {"source": "tiny", "kind": "gpm", "dim": 4, "gate": "softmax", "normalise": "l2", "tau": 0.1}
CONFIG = {
    "seed": 0,
    "model": MODEL,
    "loss": {"objective": "cross_entropy"},
    "data": {"train": ["a.jsonl"], "max_length": 64},
}
FIGURES = json.loads(json.dumps(comparison_figures([1.0, -1.0, 2.0], [1.0, 1.0, 1.0], 1.0, tags=[{"subset": "x"}] * 3)))
SECTION = {"score": 0.75, "interval": [0.7, 0.8]}
RATES = {"win_rate": 0.6, "standard_error": None}
GROUP = {"scores": [[0.0, 1.0], [-1.0, 0.0]], "labels": ["A", "B"], "embedding": [[1.0, 0.0], [0.0, 1.0]], "tau": 0.5}
FILES = {
    "summary.json": {
        "status": "finished",
        "step": 3,
        "eval": {"dev.jsonl": FIGURES},
        "config": CONFIG,
        "seconds": 3.0,
        "speed": {"steps": 2.0},
    },
    "dev.json": {
        "model": "m",
        "data": "dev.jsonl",
        "spec": MODEL,
        "max_length": 64,
        "order": {"consistent": 0.5, "first_wins": 0.5},
        **FIGURES,
    },
    "rewardbench.json": {
        "benchmark": "rewardbench",
        "model": "m",
        "judge": {"spec": MODEL},
        "sections": {"Chat": SECTION},
        **SECTION,
    },
    "sheet.json": {"rows": [{"set": "s", "model": "bt", "dim": 1, "accuracy": 0.5}], "bt_ceilings": {"s": 0.75}},
    "table.json": {"table": [{"model": "bt", "set": "s", "accuracy": 0.7, "ceiling": 0.75, "seed": 0}]},
    "policy.json": {
        "iterations": [
            {"iteration": 1, "length": {"mean": 20.0}, "kl_base_k1": 0.1, "judge": {"judge": RATES, "trainer": RATES}}
        ]
    },
    "preferences-0.json": GROUP,
    "dev.groups.jsonl": GROUP
    | {"source": "dev.jsonl:1", "comparisons": [[0, 1, 1.0]], "tags": {"subset": "x"}, "scale": [1.0]},
    "metrics.jsonl": {"step": 1, "loss": 1.0, "eval": {"dev": {"nll": 0.5}}},
}
WRONG = (None, 3, -1.5, "x", [], {}, [1], [[1, 2], 3], {"x": None}, 10**400, float("nan"))


def places(value, path=()):
    """The path to every value in a document."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inside in items:
        yield from places(inside, (*path, key))


def with_value(document, path, value):
    if not path:
        return value
    changed = copy.deepcopy(document)
    holder = changed
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return changed


def tables(folder):
    results, _ = read_results([folder])
    paper_tables(results)


def page(folder):
    chapters = find_chapters([folder], 5)
    render_page(chapters, title="t", pictures=[[]] * len(chapters), circles={}, made=datetime.date(2026, 1, 1))


def pictures(folder):
    draw_folders([folder], folder / "plots")


@pytest.fixture
def folder(tmp_path):
    for name, document in FILES.items():
        (tmp_path / name).write_text(json.dumps(document) + "\n", encoding="utf-8")
    return tmp_path


def refusal(folder, use):
    """The error about the folder's files; "" where they could be used."""
    try:
        use(folder)
    except (ValueError, OSError) as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("use", "tries"), [(tables, 200), (page, 40), (pictures, 4)])
def test_a_wrong_value_anywhere_is_used_or_an_error_that_names_the_file(folder, use, tries):
    assert refusal(folder, use) == ""
    draw = random.Random(1)
    refusals = 0
    for _ in range(tries):
        name = draw.choice(list(FILES))
        path = draw.choice(list(places(FILES[name])))
        wrong = with_value(FILES[name], path, draw.choice(WRONG))
        (folder / name).write_text(json.dumps(wrong) + "\n", encoding="utf-8")
        message = refusal(folder, use)
        refusals += bool(message)
        assert not message or (str(folder) in message and "\n" not in message), (name, path, message)
        (folder / name).write_text(json.dumps(FILES[name]) + "\n", encoding="utf-8")
    assert refusals


@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff\xfe", b'{"eval": {"dev', b"[" * 100_000, b"[1, 2]\n", b"9" * 5000 + b"\n"]
)
def test_a_file_with_other_content_is_skipped_or_an_error_that_names_it(tmp_path, content):
    readers = {
        "summary.json": (tables, page, pictures),
        "preferences-0.json": (page, pictures),
        "dev.groups.jsonl": (page,),
        "metrics.jsonl": (page, pictures),
    }
    for name, uses in readers.items():
        (tmp_path / name).write_bytes(content)
        for use in uses:
            message = refusal(tmp_path, use)
            assert not message or (str(tmp_path) in message and "\n" not in message), message
        (tmp_path / name).unlink()


def test_a_picture_file_that_is_no_archive_is_named(folder):
    (folder / "preferences-1.npz").write_bytes(b"nothing")
    assert f"{folder / 'preferences-1.npz'}: not an .npz file" in refusal(folder, pictures)
