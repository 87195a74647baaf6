"""Reads results from JSON documents: the figures, the model and the seed.

Four kinds of document are known, told apart by their fields:

    a fit's summary.json                 "eval" and "config"             one result per evaluation set
    an evaluation's FILE.json            "spec" and "accuracy"           one result
    a benchmark's FILE.json              "benchmark"                     one result with sections; "cyclic": one per set
    a sheet (benchmarks/results/*.json)  "rows", a list                  one result per row
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gpmjax.files import using
from gpmjax.reports.paper_tables.model_settings import ModelSettings, config_settings, evaluated_settings


class Figure(NamedTuple):
    """An accuracy in [0, 1] and its precision as far as it is known."""

    accuracy: float
    interval: tuple[float, float] | None = None
    """The file's 95 % interval."""
    outcomes: tuple[int, int, int] | None = None
    """Wins, ties, losses."""
    over: str = ""
    """The unit that the interval takes as independent, "prompts" or "comparisons"; empty where the file does not
    say."""


class Result(NamedTuple):
    """One model, with one seed, on one set."""

    where: str
    settings: ModelSettings
    seed: int | str
    """The seed, or the model's name where its seed is not known."""
    set: str
    """File name of the data, or name of the benchmark."""
    total: Figure
    sections: Mapping[str, Figure]
    """The figures of a benchmark's sections; empty without sections."""
    nll: float | None = None
    ceiling: float | None = None
    """The highest accuracy that any scalar reward can reach on the set, where the file has it."""


def read_document(path: Path, document: Mapping, remarks: list[str]) -> list[Result] | None:
    """The results of a document, or None when it is of no known kind. Missing figures are added to ``remarks``."""
    with using(path, "a fit, an evaluation or a benchmark"):
        if "eval" in document and "config" in document:
            return _of_fit(path, document, remarks)
        if "benchmark" in document:
            return _of_benchmark(path, document, remarks)
        if "spec" in document and "accuracy" in document:
            settings, seed = evaluated_settings(path, document, remarks)
            return [_result(str(path), settings, seed, set_name(document["data"]), document)]
        if isinstance(document.get("rows"), list):
            return _of_sheet(path, document)
    return None


def _of_fit(path: Path, document: Mapping, remarks: list[str]) -> list[Result]:
    if document["status"] != "finished":
        remarks.append(f"{path}: its fit is {document['status']} at step {document['step']}, so it is left out")
        return []
    if not document["eval"]:
        remarks.append(f"{path}: evaluated on no set, so it is left out")
    settings, seed = config_settings(document["config"])
    return [_result(str(path), settings, seed, set_name(name), figures) for name, figures in document["eval"].items()]


def _of_benchmark(path: Path, document: Mapping, remarks: list[str]) -> list[Result]:
    settings, seed = evaluated_settings(path, document, remarks)
    name = str(document["benchmark"])
    if absent := document.get("absent"):
        remarks.append(f"{path}: no rows of {len(absent)} of the benchmark's subsets ({', '.join(absent)})")
    total, parts = benchmark_parts(document)
    remarks += [
        f"{path}: no score of {part!r}, so that is left out" for part, figure in parts.items() if figure is None
    ]
    known = {part: figure for part, figure in parts.items() if figure is not None}
    if name == "cyclic":
        return [_cyclic_set(path, document, settings, seed, part, figure) for part, figure in known.items()]
    if total is None:
        remarks.append(f"{path}: no overall score, so it is left out")
        return []
    return [Result(str(path), settings, seed, name, total, known)]


def benchmark_parts(document: Mapping) -> tuple[Figure | None, dict[str, Figure | None]]:
    """The overall figure of a benchmark, and the figures of its sections, or of its subsets where it has no
    sections."""
    parts = document.get("sections") or document.get("subsets") or {}
    return figure_of(document), {name: figure_of(value) for name, value in parts.items()}


def _cyclic_set(
    path: Path, document: Mapping, settings: ModelSettings, seed: int | str, part: str, figure: Figure
) -> Result:
    """The result of one set of the cyclic benchmark. A set that is alone in its file is named after the file."""
    subsets = document["subsets"]
    name = set_name(str(document["data"])) if len(subsets) == 1 and "data" in document else part
    return Result(str(path), settings, seed, name, figure, {}, ceiling=subsets[part].get("ceiling"))


def _of_sheet(path: Path, document: Mapping) -> list[Result]:
    results = []
    for number, row in enumerate(document["rows"]):
        if lacking := [name for name in ("set", "model", "dim", "accuracy") if name not in row]:
            raise ValueError(f"{path}: row {number} has no field {lacking[0]!r}")
        settings = ModelSettings(
            base=row.get("base", ""),
            kind=row["model"],
            dim=row["dim"],
            gate=row.get("gate", "none"),
            normalise=row.get("normalise", "none"),
            head=row.get("head", "linear"),
            objective=row.get("objective", "cross_entropy"),
        )
        result = _result(f"{path}, row {number}", settings, row.get("seed", 0), row["set"], row)
        results.append(result._replace(ceiling=document.get("bt_ceilings", {}).get(row["set"])))
    return results


def _result(where: str, settings: ModelSettings, seed: int | str, name: str, figures: Mapping) -> Result:
    figure = figure_of(figures)
    if figure is None:
        raise ValueError(f"{where}: no accuracy on {name}")
    return Result(where, settings, seed, name, figure, {}, figures.get("nll"))


def set_name(source: str) -> str:
    """The name of a data set: its file name with the query.

    >>> set_name("/data/cycles.jsonl.gz?config=a,b"), set_name("builtin:letters")
    ('cycles.jsonl.gz?config=a,b', 'builtin:letters')
    """
    place, mark, query = source.partition("?")
    return Path(place).name + mark + query


def figure_of(value: Any) -> Figure | None:
    """The figure in a number or in figures of `metrics.comparison_figures` or a benchmark; None without an accuracy."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Figure(float(value))
    if not isinstance(value, Mapping):
        return None
    accuracy = next((value[key] for key in ("accuracy", "score") if value.get(key) is not None), None)
    if accuracy is None:
        return None
    counts: Any = tuple(value.get(key) for key in ("wins", "ties", "losses"))
    outcomes = None if None in counts else counts
    interval = _interval(value.get("accuracy_interval") or value.get("interval"))
    return Figure(float(accuracy), interval, outcomes, str(value.get("interval_over") or ""))


def _interval(pair: Sequence[float] | None) -> tuple[float, float] | None:
    return None if pair is None else (float(pair[0]), float(pair[1]))
