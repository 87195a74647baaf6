"""Parts of the page without a browser: runs, cells of heat maps, sections, escaping."""

import datetime
import json
import math

import numpy as np
import pytest

from gpmjax.evals.metrics import comparison_figures
from gpmjax.reports.page import find_chapters, read_picture, render_page
from gpmjax.reports.page.build import beaten
from gpmjax.reports.page.examples import read_group_records, read_preferences
from gpmjax.reports.page.sections import section

CYCLE = [[0.0, 1.0, -2.0], [-1.0, 0.0, 4.0], [2.0, -4.0, 0.0]]


def write(path, *documents):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return path


def cells(example):
    return [response.cells for response in example.responses]


def test_a_cell_has_its_score_probability_strength_and_agreement_with_the_label(tmp_path):
    record = {
        "source": "/d/a.jsonl:7",
        "scores": CYCLE,
        "tau": 2.0,
        "comparisons": [[0, 1, 1.0], [0, 2, 0.9], [1, 2, 0.5]],
    }
    (example,) = read_group_records(write(tmp_path / "dev.groups.jsonl", record, {"not": "reached"}), limit=1)
    found = cells(example)
    assert found[0][1].probability == pytest.approx(1 / (1 + math.exp(-0.5)))
    assert [[cell.label for cell in row] for row in found] == [["", "right", "wrong"], ["", "", ""], ["", "", ""]]
    # |s| as a share of the largest, 4, at most |2P − 1| = tanh(s/2τ).
    assert found[1][2].strength == pytest.approx(math.tanh(1.0))
    assert found[0][1].strength == pytest.approx(min(0.25, math.tanh(0.25)))
    assert example.headline == "100 % of its triads are cycles"
    assert (example.title, example.name, example.prompt) == ("a.jsonl:7", "dev_1", None)
    assert beaten(example) == "1 beats 2; 2 beats 3; 3 beats 1"


def test_a_response_does_not_beat_itself_by_rounding(tmp_path):
    scores = [[1e-7, 1.0, 1.0], [-1.0, 0.0, 1.0], [-1.0, -1.0, 1e-7]]
    (example,) = read_group_records(write(tmp_path / "dev.groups.jsonl", {"source": "a", "scores": scores}), limit=1)
    assert example.headline == "0 % of its triads are cycles"


def test_a_pair_that_was_not_judged_is_not_zero(tmp_path):
    record = {"source": "a", "scores": [[0.0, None], [3.0, 0.0]], "truncated": True}
    (example,) = read_group_records(write(tmp_path / "dev.groups.jsonl", record), limit=9)
    assert cells(example)[0][1].score is None and np.isnan(example.scores[0, 1])
    assert cells(example)[1][0][:3] == (3.0, None, 1.0)  # without τ there is no probability
    assert example.headline == "cut to the model's window"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("{}", "no field 'scores'"),
        ('{"scores": [[0, 1], [-1, 0]], "labels": ["A"]}', "labels has 1 entries for scores of shape"),
        ('{"scores": [[0, 1], [-1, 0]], "texts": {"responses": ["A"]}}', "texts.responses has 1 entries"),
    ],
)
def test_a_malformed_group_is_named(tmp_path, text, words):
    readers = {"preferences-0.json": read_preferences, "a.groups.jsonl": lambda path: read_group_records(path, 1)}
    for name, read in readers.items():
        path = tmp_path / name
        path.write_text(text + "\n")
        with pytest.raises(ValueError, match=words) as refusal:
            read(path)
        assert str(refusal.value).startswith(str(path)) and "\n" not in str(refusal.value)


def test_runs_of_one_parent_make_a_chapter(tmp_path):
    for place in ("demo", "demo/letters/bt", "demo/letters/gpm", "demo/letters/gpm/model", "demo/checkpoints/7"):
        write(tmp_path / place / "summary.json", {"eval": {}})
    write(tmp_path / "demo" / "letters" / "notes" / "config.json", {"iterations": 3})
    for folders in ([tmp_path / "demo"], [tmp_path / "demo", tmp_path / "demo" / "letters" / "gpm"]):
        chapters = find_chapters(folders, 3)
        assert [(chapter.title, [run.name for run in chapter.runs]) for chapter in chapters] == [
            ("demo", ["demo"]), ("letters", ["bt", "gpm"]),
        ]  # fmt: skip
    with pytest.raises(FileNotFoundError, match="absent: no such directory"):
        find_chapters([tmp_path / "absent"], 3)
    with pytest.raises(FileNotFoundError, match="notes: no summary, metrics.jsonl"):
        find_chapters([tmp_path / "demo" / "letters" / "notes"], 3)


def test_a_section_gathers_fits_evaluations_and_benchmarks(tmp_path):
    figures = comparison_figures([1.0, -1.0, 2.0], [1.0, 1.0, 1.0], 1.0, tags=[{"subset": s} for s in "aab"])
    config = {"model": {"source": "tiny", "kind": "gpm", "dim": 4, "lora_rank": 2}, "seed": 5}
    write(
        tmp_path / "summary.json",
        {"status": "finished", "step": 3, "eval": {"d/dev.jsonl?x=1": figures}, "config": config},
    )
    write(
        tmp_path / "test.json",
        {"model": "m", "data": "d/test.jsonl", "spec": {"kind": "bt"}, "max_length": 64, **figures},
    )
    parts = {"Chat": {"score": 0.5}, "Safety": {"score": None}}
    write(tmp_path / "rb.json", {"benchmark": "rewardbench", "score": 0.5, "sections": parts})
    ((run,),) = (chapter.runs for chapter in find_chapters([tmp_path], 3))
    found = section(run)
    assert found.model == "GPM, 2k = 4"
    assert {"Trained": "LoRA of rank 2 and heads", "Seed": "5"}.items() <= dict(found.facts).items()
    assert {evaluation.set for evaluation in found.evaluations} == {"dev.jsonl?x=1", "test.jsonl"}
    assert [(tag, [value for value, _ in values]) for tag, values in found.evaluations[0].parts] == [
        ("subset", ["a", "b"])
    ]
    assert found.evaluated == [("test", "model m; window of 64 tokens; intervals over comparisons")]
    (benchmark,) = found.benchmarks
    assert benchmark.total.accuracy == 0.5 and benchmark.parts["Safety"] is None


def test_text_from_data_is_escaped_and_nothing_is_loaded(tmp_path):
    hostile = "<script>alert(1)</script>\"'>{{ 7 * 7 }}"
    texts = {"prompt": hostile, "responses": [hostile] * 3}
    write(tmp_path / "preferences-0.json", {"scores": CYCLE, "texts": texts, "labels": [hostile] * 3, "title": hostile})
    write(tmp_path / "summary.json", {"eval": {hostile: comparison_figures([1.0], [1.0], 1.0)}, "status": hostile})
    chapters = find_chapters([tmp_path], 3)
    html = render_page(chapters, title=hostile, pictures=[[]], circles={}, made=datetime.date(2026, 1, 2))
    assert "<script" not in html and "{{ 7" in html and "49" not in html.split("<body>")[1].split("<pre>")[0]
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 10
    assert "default-src &#39;none&#39;" in html or "default-src 'none'" in html
    assert not [mark for mark in ("http:", "https:", "url(", "@import", "onload") if mark in html]
    assert "2 January 2026" in html


def test_a_picture_that_is_no_png_is_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"GIF89a")
    with pytest.raises(ValueError, match=r"a\.png: not a PNG file"):
        read_picture(path)
