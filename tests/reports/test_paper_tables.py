"""The paper's tables from files: settings, means over seeds, differences to Bradley–Terry, remarks on what is left
out."""

import csv
import io
import json

import pytest

from gpmjax.evals.metrics import comparison_figures
from gpmjax.reports.paper_tables import paper_tables, read_results, to_csv, to_markdown
from gpmjax.reports.paper_tables.documents import Figure, figure_of
from gpmjax.reports.paper_tables.estimate import estimate

MODEL = {
    "source": "tiny",
    "kind": "gpm",
    "dim": 4,
    "gate": "softmax",
    "normalise": "l2",
    "head": "linear",
    "mlp_widths": [],
}
BT = {"kind": "bt", "dim": 1, "gate": "none", "normalise": "none"}
SECTIONS = ("Chat", "Chat Hard", "Safety", "Reasoning")


def write(path, document):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def figures(right, of=100):
    return comparison_figures([1.0] * right + [-1.0] * (of - right), [1.0] * of, 1.0)


def write_fit(path, right, seed=0, data="/data/cycles.jsonl", **model):
    """A finished fit's summary with ``right`` of 100 comparisons right."""
    config = {"seed": seed, "model": MODEL | model, "loss": {"objective": "cross_entropy"}}
    return write(
        path / "summary.json", {"status": "finished", "step": 9, "eval": {data: figures(right)}, "config": config}
    )


def write_benchmark(path, shares, model, **more):
    sections = {name: {"score": share} for name, share in zip(SECTIONS, shares, strict=True)}
    document = {
        "benchmark": "rewardbench",
        "model": str(model),
        "judge": {"spec": {}},
        "sections": sections,
        "score": sum(shares) / 4,
    }
    return write(path, document | more)


def tables(*paths, numbers=(1, 2, 7)):
    results, _ = read_results(paths)
    return {table.name.split("_")[0]: table for table in paper_tables(results, numbers)}


def printed(table):
    """The rows of the markdown, as lists of cells, without marks."""
    lines = to_markdown(table).replace("**", "").replace("<u>", "").replace("</u>", "").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")][1:]


def test_seeds_of_the_same_settings_are_averaged_with_a_bootstrap_interval(tmp_path):
    for seed, right in enumerate((90, 100, 95)):
        write_fit(tmp_path / f"gpm{seed}", right, seed)
    write_fit(tmp_path / "bt", 50, **BT)
    table = tables(tmp_path)["table1"]
    assert printed(table)[0] == ["cycles.jsonl", "BT", "1", "1", "50.0 [40.0, 60.0]"]
    dataset, model, dim, seeds, cell = printed(table)[1]
    assert (dataset, model, dim, seeds) == ("cycles.jsonl", "GPM", "4", "3")
    # More than 2.5 % of the resamples of three numbers are the smallest alone, or the largest alone.
    assert cell == "95.0 (+45.0) [90.0, 100.0]"
    assert "bootstrap over seeds" in to_markdown(table) and "base model tiny" in to_markdown(table)


def test_the_interval_of_one_seed_is_over_comparisons_unless_all_are_equal():
    spread = estimate([Figure(0.5, (0.0, 1.0), (450, 100, 450))])
    assert spread.basis == "comparisons" and spread.mean == 0.5
    # Outcomes have a variance of 0.225: ± 1.96 √(0.225/1000) = ± 0.0294.
    assert spread.interval == pytest.approx((0.4706, 0.5294), abs=0.002)
    assert estimate([Figure(1.0, (0.96, 1.0), (100, 0, 0))])[1:] == ((0.96, 1.0), 1, "file")
    assert estimate([Figure(0.7)])[1:] == (None, 1, "")


def test_an_interval_over_prompts_is_the_files():
    figures = comparison_figures([1.0, 1.0, -1.0, 1.0], [1.0] * 4, 1.0, prompts=["a", "a", "b", "b"])
    found = estimate([figure_of(figures)])
    assert found.basis == "prompts" and list(found.interval) == figures["accuracy_interval"]
    assert figure_of(figures | {"interval_over": "comparisons"}).over == "comparisons"
    old = {name: value for name, value in figures.items() if name != "interval_over"}
    assert estimate([figure_of(old)]).basis == "comparisons"


def test_sections_are_in_the_papers_order_with_differences(tmp_path):
    for name, model in {"bt": BT, "gpm": {}}.items():
        write_fit(tmp_path / name, 50, **model)
    write_benchmark(tmp_path / "a.json", (0.5, 0.6, 0.7, 0.8), tmp_path / "bt" / "model")
    write_benchmark(tmp_path / "b.json", (0.6, 0.6, 0.65, 0.75), tmp_path / "gpm" / "model")
    table = tables(tmp_path)["table2"]
    assert table.values == (*SECTIONS, "Average") and "tiny" in table.title
    assert printed(table) == [
        ["BT", "1", "1", "50.0", "60.0", "70.0", "80.0", "65.0"],
        ["GPM", "4", "1", "60.0 (+10.0)", "60.0 (+0.0)", "65.0 (−5.0)", "75.0 (−5.0)", "65.0 (+0.0)"],
    ]
    assert "| BT | 1 | 1 | <u>50.0</u> | **60.0** |" in to_markdown(table)


def test_a_section_that_one_seed_lacks_is_left_empty_with_a_remark(tmp_path):
    write_fit(tmp_path / "gpm", 50)
    path = write_benchmark(tmp_path / "a.json", (0.5, 0.6, 0.7, 0.8), tmp_path / "gpm" / "model")
    document = json.loads(path.read_text())
    document["sections"]["Safety"] = {"score": None}
    write(path, document)
    write_benchmark(tmp_path / "b.json", (0.5, 0.6, 0.7, 0.8), tmp_path / "gpm" / "model", seed=1)
    results, remarks = read_results([tmp_path])
    assert remarks == [f"{path}: no score of 'Safety', so that is left out"]
    (table,) = paper_tables(results, [2])
    assert printed(table)[0][5] == "–"


def test_the_ablation_crosses_gate_length_and_dimension(tmp_path):
    for dim in (2, 4):
        for gate in ("none", "softmax"):
            for normalise in ("none", "l2"):
                write_fit(tmp_path / f"{dim}{gate}{normalise}", 40 + dim, dim=dim, gate=gate, normalise=normalise)
    write_fit(tmp_path / "bt", 50, **BT)
    table = tables(tmp_path)["table7"]
    assert [row[1:4] for row in printed(table)] == [["–", "–", "1"]] + [
        [gate, unit, dim] for dim in "24" for gate in ("softmax", "none") for unit in ("yes", "no")
    ]
    assert all(row[5].startswith(f"4{row[3]}.0 (−") for row in printed(table)[1:])


def test_models_that_are_asked_a_question_are_no_baseline(tmp_path):
    write_fit(tmp_path / "bt", 50, **BT)
    write_fit(tmp_path / "genrm", 60, **BT, question="yes_no")
    write_fit(tmp_path / "pair", 70, **BT | {"kind": "pairwise"}, question="one_or_two")
    assert [(row[1], row[4][:12]) for row in printed(tables(tmp_path)["table1"])] == [
        ("BT", "50.0 [40.0, "), ("GenRM", "60.0 (+10.0)"), ("PairPM", "70.0 (+20.0)"),
    ]  # fmt: skip


def test_a_single_variant_is_no_ablation(tmp_path):
    write_fit(tmp_path, 50)
    assert "table7" not in tables(tmp_path)


def test_csv_holds_the_same_numbers_unrounded(tmp_path):
    write_fit(tmp_path / "gpm", 66)
    write_fit(tmp_path / "bt", 50, **BT)
    _, row = csv.DictReader(io.StringIO(to_csv(tables(tmp_path)["table1"])))
    assert row["model"] == "GPM" and float(row["accuracy"]) == 0.66
    assert float(row["accuracy difference"]) == pytest.approx(0.16) and float(row["accuracy low"]) < 0.66


def test_an_evaluation_has_the_settings_of_the_run_that_made_its_model(tmp_path):
    write_fit(tmp_path / "gpm", 80, seed=3)
    model = str(tmp_path / "gpm" / "model")
    write(tmp_path / "gpm" / "cycles.json", {"model": model, "data": "cycles.jsonl", "spec": {}, **figures(80)})
    (result,) = read_results([tmp_path])[0]  # it equals the fit's own evaluation, so there is one result
    assert result.seed == 3 and result.settings.base == "tiny"
    write(
        tmp_path / "hub.json",
        {"model": "a/b", "data": "cycles.jsonl", "spec": {"kind": "gpm", "dim": 6}, **figures(70)},
    )
    results, (remark,) = read_results([tmp_path])
    assert remark.startswith(f"{tmp_path}/hub.json: no training summary beside its model 'a/b'")
    assert {r.settings.base: r.seed for r in results} == {"tiny": 3, "a/b": "a/b"}


def test_a_sheet_of_rows_is_read(tmp_path):
    row = {"set": "s", "model": "gpm", "dim": 2, "gate": "none", "normalise": "l2", "seed": 0, "accuracy": 0.75}
    path = write(tmp_path / "sheet.json", {"rows": [row, row | {"model": "bt", "dim": 1}], "bt_ceilings": {"s": 2 / 3}})
    assert "no scalar can pass 66.7 on s" in to_markdown(tables(path)["table1"])
    write(path, {"rows": [{"set": "s"}]})
    with pytest.raises(ValueError, match="sheet.json: row 0 has no field 'model'"):
        read_results([path])


def test_files_that_cannot_be_used_are_named_in_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent: no such file"):
        read_results([tmp_path / "absent"])
    with pytest.raises(FileNotFoundError, match="no summary of a fit"):
        read_results([tmp_path])
    with pytest.raises(ValueError, match="other.json: neither a summary"):
        read_results([write(tmp_path / "other.json", {"a": 1})])
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ValueError, match="broken.json: not JSON"):
        read_results([tmp_path])


def test_an_unfinished_fit_is_left_out_and_a_contradiction_refused(tmp_path):
    write_fit(tmp_path / "a", 80)
    path = write_fit(tmp_path / "b", 70, seed=1)
    write(path, json.loads(path.read_text()) | {"status": "interrupted"})
    results, remarks = read_results([tmp_path])
    assert len(results) == 1 and remarks == [f"{path}: its fit is interrupted at step 9, so it is left out"]
    write_fit(tmp_path / "c", 70)
    with pytest.raises(ValueError, match=r"c/summary.json: accuracy 0.7 on cycles.jsonl, but .*a/summary.json has 0.8"):
        read_results([tmp_path])


def test_cyclic_benchmarks_are_sets_of_table_1(tmp_path):
    write_fit(tmp_path / "gpm", 50, data="other.jsonl")

    def subset(right):
        return {"score": right / 100, "interval": [0.9, 1.0], "ceiling": 2 / 3}

    document = {"benchmark": "cyclic", "model": str(tmp_path / "gpm" / "model"), "data": "d/one.jsonl"}
    for name, subsets in {
        "two": {"no_honesty": subset(100), "no_truthfulness": subset(99)},
        "one": {"everything": subset(98)},
    }.items():
        write(tmp_path / f"{name}.json", document | {"score": 0.99, "sections": {}, "subsets": subsets})
    table = tables(tmp_path)["table1"]
    assert {row[0]: row[4][:4] for row in printed(table)} == {
        "no_honesty": "100.", "no_truthfulness": "99.0", "one.jsonl": "98.0", "other.jsonl": "50.0",
    }  # fmt: skip
    assert "no scalar can pass 66.7 on one.jsonl" in to_markdown(table)


def test_absent_subsets_of_a_benchmark_are_named(tmp_path):
    write_fit(tmp_path / "gpm", 50)
    path = write_benchmark(tmp_path / "a.json", (0.5, 0.6, 0.7, 0.8), tmp_path / "gpm" / "model")
    document = json.loads(path.read_text())
    document["absent"] = ["hep-go", "hep-js"]
    write(path, document)
    assert read_results([path])[1] == [f"{path}: no rows of 2 of the benchmark's subsets (hep-go, hep-js)"]
