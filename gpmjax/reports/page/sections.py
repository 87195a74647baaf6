"""A run's documents → what its section shows: facts, rows of figures, breakdowns. Plain values, formatted by the template."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gpmjax.files import using
from gpmjax.reports.page.folders import Run
from gpmjax.reports.source_tables.documents import Figure, benchmark_parts, set_name
from gpmjax.reports.tables.evaluation import over

LONGEST = 40_000
"""Characters of a document that the page shows."""


class Evaluation(NamedTuple):
    """Figures on one set."""

    set: str
    file: str
    figures: Mapping[str, Any]
    """As `metrics.summarise` makes them."""
    model: str = ""
    """The model's head, where the file says it."""

    @property
    def parts(self) -> list[tuple[str, list[tuple[str, Mapping[str, Any]]]]]:
        """(tag, [(value, figures)]) of the breakdown."""
        return [(tag, list(values.items())) for tag, values in self.figures.get("by", {}).items()]


class Benchmark(NamedTuple):
    """A benchmark's figures, part by part."""

    name: str
    file: str
    total: Figure | None
    parts: Mapping[str, Figure]


class Section(NamedTuple):
    """All that is shown of one run but its pictures."""

    model: str
    """What kind of model it is, in a few words; "" where no file says it."""
    facts: list[tuple[str, str]]
    """Of the fit: name, value."""
    evaluated: list[tuple[str, str]]
    """Of each evaluation: its file's name, and how it was done."""
    evaluations: list[Evaluation]
    benchmarks: list[Benchmark]
    iterations: list[Mapping[str, Any]]
    """Of a policy's run."""
    documents: list[tuple[str, str]]
    """File name and JSON text, for the curious."""


def section(run: Run) -> Section:
    """Gathers from every document of the run what it has to say."""
    facts, evaluated, evaluations, benchmarks, iterations, model = [], [], [], [], [], ""
    for name, document in run.documents.items():
        with using(run.folder / name, "a run or an evaluation"):
            config, spec = document.get("config") or {}, document.get("spec") or document.get("judge", {}).get("spec")
            if "model" in config:
                model = describe(config["model"])
                facts += _fit_facts(document, config)
            elif spec:
                model = model or describe(spec)
            if isinstance(document.get("eval"), dict):
                evaluations += [
                    Evaluation(set_name(source), name, figures) for source, figures in document["eval"].items()
                ]
            if "benchmark" in document:
                benchmarks.append(Benchmark(str(document["benchmark"]), name, *benchmark_parts(document)))
            elif document.get("comparisons") and "accuracy" in document:
                described = describe(spec) if spec else ""
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


def describe(spec: Mapping[str, Any]) -> str:
    """A model's head in a line.

    >>> describe({"kind": "gpm", "dim": 4, "gate": "softmax", "normalise": "l2", "tau": 0.1})
    'GPM, 2k = 4, gate softmax, unit length, τ = 0.1'
    >>> describe({"kind": "bt", "dim": 1, "gate": "none", "normalise": "none", "head": "mlp", "mlp_widths": [256]})
    'Bradley–Terry, MLP 256'
    >>> describe({"kind": "hybrid", "dim": 8, "gamma": 0.5, "tau": 1.0})
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
    """How an evaluation was done."""
    how = [f"model {document['model']}"] if "model" in document else []
    how += [f"window of {document['max_length']:,} tokens"] if document.get("max_length") else []
    how += [f"{name} {document[name]}" for name in ("dtype", "template") if name in document]
    how += [f"{document['forward_tokens']:,} forward tokens"] if "forward_tokens" in document else []
    how += [f"intervals {over(document)}"] if document.get("accuracy_interval") else []
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
