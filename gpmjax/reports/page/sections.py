"""Gathers the contents of a run's section from its documents: facts, rows of figures and breakdowns.

The template formats the numbers.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gpmjax.files import using
from gpmjax.reports.numbers import interval_unit
from gpmjax.reports.page.folders import RunFolder
from gpmjax.reports.paper_tables.documents import Figure, benchmark_parts, set_name

LONGEST = 40_000
"""The page shows this many characters of a document."""


class Evaluation(NamedTuple):
    """Figures on one set."""

    set: str
    file: str
    figures: Mapping[str, Any]
    """Figures of `metrics.comparison_figures`."""
    model: str = ""
    """Description of the model's head, where the file holds it."""

    @property
    def parts(self) -> list[tuple[str, list[tuple[str, Mapping[str, Any]]]]]:
        """The breakdown as (tag, [(value, figures)])."""
        return [(tag, list(values.items())) for tag, values in self.figures.get("by", {}).items()]


class BenchmarkFigures(NamedTuple):
    """A benchmark's figures, in total and by part."""

    name: str
    file: str
    total: Figure | None
    parts: Mapping[str, Figure | None]


class Section(NamedTuple):
    """The contents of one run's section, without its pictures."""

    model: str
    """Description of the model in a few words; "" where no file has it."""
    facts: list[tuple[str, str]]
    """(name, value) of the fit's facts."""
    evaluated: list[tuple[str, str]]
    """(file name, settings) of each evaluation."""
    evaluations: list[Evaluation]
    benchmarks: list[BenchmarkFigures]
    iterations: list[Mapping[str, Any]]
    """Figures of the iterations of a policy's run."""
    documents: list[tuple[str, str]]
    """(file name, JSON text) of every document."""


def section(run: RunFolder) -> Section:
    """The section of a run, gathered from all of its documents."""
    facts, evaluated, evaluations, benchmarks, iterations, model = [], [], [], [], [], ""
    for name, document in run.documents.items():
        with using(run.folder / name, "a run or an evaluation"):
            config, spec = document.get("config") or {}, document.get("spec") or document.get("judge", {}).get("spec")
            if "model" in config:
                model = describe_model(config["model"])
                facts += _fit_facts(document, config)
            elif spec:
                model = model or describe_model(spec)
            if isinstance(document.get("eval"), dict):
                evaluations += [
                    Evaluation(set_name(source), name, figures) for source, figures in document["eval"].items()
                ]
            if "benchmark" in document:
                benchmarks.append(BenchmarkFigures(str(document["benchmark"]), name, *benchmark_parts(document)))
            elif document.get("comparisons") and "accuracy" in document:
                described = describe_model(spec) if spec else ""
                evaluations.append(Evaluation(set_name(str(document.get("data") or name)), name, document, described))
            if spec:
                evaluated.append((Path(name).stem, _how(document)))
            if isinstance(document.get("iterations"), list):
                iterations += document["iterations"]
    texts = [(name, _shown(document)) for name, document in run.documents.items()]
    return Section(model, facts, evaluated, evaluations, benchmarks, iterations, texts)


def _shown(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}\n… and {len(text) - LONGEST:,} characters more"


def describe_model(spec: Mapping[str, Any]) -> str:
    """A one-line description of a model's head.

    >>> describe_model({"kind": "gpm", "dim": 4, "gate": "softmax", "normalise": "l2", "tau": 0.1})
    'GPM, 2k = 4, gate softmax, unit length, τ = 0.1'
    >>> describe_model({"kind": "bt", "dim": 1, "gate": "none", "head": "mlp", "mlp_widths": [256]})
    'Bradley–Terry, MLP 256'
    >>> describe_model({"kind": "hybrid", "dim": 8, "gamma": 0.5, "tau": 1.0})
    'hybrid of reward and cycles, 2k = 8, γ = 0.5, τ = 1'
    """
    kind = spec.get("kind", "gpm")
    words = [
        {"gpm": "GPM", "bt": "Bradley–Terry", "hybrid": "hybrid of reward and cycles", "pairwise": "pairwise"}.get(
            kind, kind
        )
    ]
    if kind in ("gpm", "hybrid") and "dim" in spec:
        words.append(f"2k = {spec['dim']}")
    if kind == "hybrid":
        words.append(f"γ = {spec.get('gamma', 1):g}")
    if spec.get("gate", "none") != "none":
        words.append(f"gate {spec['gate'].replace('_', ' ')}")
    if spec.get("normalise", "none") == "l2":
        words.append("unit length")
    if spec.get("head") == "mlp":
        words.append(" ".join(["MLP", *map(str, spec.get("mlp_widths", ()))]))
    if spec.get("head") == "verdict":
        words.append("verdict " + "/".join(map(str, spec.get("verdicts", ()))))
    if kind in ("gpm", "hybrid") and "tau" in spec:
        words.append(f"τ = {spec['tau']:g}")
    return ", ".join(words)


def _fit_facts(document: Mapping[str, Any], config: Mapping[str, Any]) -> list[tuple[str, str]]:
    model, data = config["model"], document.get("data", {}).get("train", {})
    trained = {"frozen": "heads on a frozen backbone"}.get(model.get("backbone", ""), "backbone and heads")
    if model.get("lora_rank"):
        trained = f"LoRA of rank {model['lora_rank']} and heads"
    facts = {
        "Status": f"{document.get('status', 'not said')}, step {document.get('step', '?')}",
        "Base model": model.get("source", ""),
        "Trained": trained,
        "Parameters": ", ".join(
            f"{count:,} {which}" for which, count in document.get("parameters", {}).items() if count
        ),
        "Objective": config.get("loss", {}).get("objective", "").replace("_", " "),
        "Trained on": ", ".join(map(set_name, config.get("data", {}).get("train", ()))),
        "Data": ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in data.items() if count),
        "Window": f"{config['data']['max_length']:,} tokens" if "max_length" in config.get("data", {}) else "",
        "Seed": str(config.get("seed", "")),
        "Time": f"{document['seconds']:,.0f} s" if "seconds" in document else "",
        "Device": _device(document.get("device", {})),
        "Speed": ", ".join(
            f"{value:,.4g} {name.replace('_', ' ')}" for name, value in _numbers(document.get("speed", {}))
        ),
    }
    return [(name, value) for name, value in facts.items() if value]


def _how(document: Mapping[str, Any]) -> str:
    """The settings of an evaluation, its rows and its order effects."""
    how = [f"model {document['model']}"] if "model" in document else []
    how += [f"window of {document['max_length']:,} tokens"] if document.get("max_length") else []
    how += [f"{name} {document[name]}" for name in ("dtype", "template") if name in document]
    how += [f"{document['forward_tokens']:,} forward tokens"] if "forward_tokens" in document else []
    how += [f"intervals {interval_unit(document)}"] if document.get("accuracy_interval") else []
    if order := document.get("order"):
        how.append(f"{100 * order['consistent']:.1f} % have one verdict in both orders")
        how.append(f"the response that is read first wins {100 * order['first_wins']:.1f} %")
    if isinstance(rows := document.get("rows"), dict):
        how.append("rows: " + ", ".join(f"{count:,} {which}" for which, count in _numbers(rows) if count))
    return "; ".join(how)


def _device(device: Mapping[str, Any]) -> str:
    if not device:
        return ""
    hosts = f" on {device['hosts']} hosts" if device.get("hosts", 1) > 1 else ""
    return f"{device.get('count', 1)} × {device.get('kind', 'unknown')}{hosts}"


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    return ((name, value) for name, value in values.items() if isinstance(value, int | float))
