"""Reads the groups that the page shows as heat maps: a prompt, its responses, and a cell per ordered pair of responses.

Two kinds of file hold groups: ``preferences*.json`` of a fit (gpmjax/fit/examples.py) and ``*.groups.jsonl`` of an
evaluation (`judge.group_record`). Either may lack ``texts`` {"prompt", "responses"}; then labels or numbers stand for
the responses.
"""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from gpmjax.files import read_json, using
from gpmjax.judges.judge import record_scores
from gpmjax.preference.game import cyclic_share
from gpmjax.reports.paper_tables.documents import set_name

SHORT = 6
"""Letters of the longest label that fits beside a point."""


class PairCell(NamedTuple):
    """The pair (row i, column j) of a heat map."""

    score: float | None
    """s(i ≻ j); None where the pair was not judged."""
    probability: float | None
    """σ(s/τ); None where τ is not known."""
    strength: float
    """|s| as a share of the largest in the matrix, at most |2P − 1|, so that no response of an even pair looks
    preferred."""
    label: str
    """ "right" or "wrong" where the data prefer i, by whether the model agrees; else ""."""


class Response(NamedTuple):
    """One response: its text and its row of the heat map."""

    label: str
    text: str | None
    tokens: int | None
    cells: tuple[PairCell, ...]


class ExampleGroup(NamedTuple):
    """One group as the page shows it."""

    name: str
    """Name of the group's circle picture: circle_{name}.png."""
    title: str
    prompt: str | None
    responses: tuple[Response, ...]
    headline: str
    """The most important fact about the group; may be ""."""
    facts: tuple[str, ...]
    """Further facts, a few words each."""
    scores: np.ndarray
    """[K, K], NaN where not judged."""
    embedding: np.ndarray | None
    scale: np.ndarray | None
    reward: np.ndarray | None

    @property
    def names(self) -> list[str]:
        """Short names of the responses: their labels, or their numbers when a label is long."""
        labels = [response.label for response in self.responses]
        return labels if max(map(len, labels), default=0) <= SHORT else [str(n + 1) for n in range(len(labels))]

    @property
    def labelled(self) -> bool:
        """Whether the file says which side of some pair the data prefer."""
        return any(cell.label for response in self.responses for cell in response.cells)


def read_preferences(path: Path) -> ExampleGroup:
    """The group of a fit's preferences file. Raises ValueError naming the file and its missing field."""
    group = read_json(path)
    # gpmjax.reports.plots gives the picture the same name.
    name = path.stem.removeprefix("preferences").strip("_-") or "preferences"
    with using(path, "a fit"):
        return _example(str(path), name, group, str(group.get("title", path.name)))


def read_group_records(path: Path, limit: int) -> list[ExampleGroup]:
    """The first ``limit`` groups of an evaluation. Raises ValueError naming the file, line and missing field."""
    found = []
    with path.open("rb") as lines:
        for number, line in enumerate(itertools.islice(lines, limit), start=1):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}:{number}: not JSON ({error})") from error
            where, name = f"{path}:{number}", f"{path.name.removesuffix('.groups.jsonl')}_{number}"
            with using(where, "an evaluation"):
                found.append(_example(where, name, record, str(record.get("source", f"{path.name}:{number}"))))
    return found


def _example(where: str, name: str, group: Mapping[str, Any], title: str) -> ExampleGroup:
    if "scores" not in group:
        raise ValueError(f"{where}: no field 'scores'")
    scores = record_scores(group)
    count = len(scores)
    texts = group.get("texts") or {}
    labels = group.get("labels") or [str(n + 1) for n in range(count)]
    for field, values in {"labels": labels, "texts.responses": texts.get("responses", labels)}.items():
        if scores.shape != (count, count) or len(values) != count:
            raise ValueError(f"{where}: {field} has {len(values)} entries for scores of shape {scores.shape}")
    matrix = _cells(scores, group.get("tau"), group.get("comparisons", ()))
    tokens = group.get("tokens") or [None] * count
    responses: Any = zip(labels, texts.get("responses", [None] * count), tokens, matrix, strict=True)
    return ExampleGroup(
        name=name,
        title=set_name(title),
        prompt=texts.get("prompt"),
        responses=tuple(Response(str(label), *rest) for label, *rest in responses),
        headline=_headline(group, scores),
        facts=tuple(_facts(group)),
        scores=scores,
        embedding=_array(group, "embedding"),
        scale=_array(group, "scale"),
        reward=_array(group, "reward") if group.get("scale") is not None else None,
    )


def _array(group: Mapping[str, Any], field: str) -> np.ndarray | None:
    return None if group.get(field) is None else np.array(group[field], np.float64)


def _cells(scores: np.ndarray, tau: float | None, comparisons: Any) -> list[tuple[PairCell, ...]]:
    largest = max(float(np.nanmax(np.abs(scores), initial=0.0)), 1e-12)
    winners = {(i, j) if target > 0.5 else (j, i) for i, j, target in comparisons if target != 0.5}

    def cell(i: int, j: int) -> PairCell:
        score = float(scores[i, j])
        if np.isnan(score):
            return PairCell(None, None, 0.0, "")
        label = ("right" if score > 0 else "wrong") if (i, j) in winners else ""
        share = abs(score) / largest
        if tau is None:
            return PairCell(score, None, share, label)
        probability = float(special.expit(score / tau))
        return PairCell(score, probability, min(share, abs(2 * probability - 1)), label)

    return [tuple(cell(i, j) for j in range(len(scores))) for i in range(len(scores))]


def _headline(group: Mapping[str, Any], scores: np.ndarray) -> str:
    words = ["cut to the model's window"] if group.get("truncated") else []
    if len(scores) > 2 and not np.isnan(scores).any():
        skew = (scores - scores.T) / 2  # makes the diagonal exactly 0; that of a model is only nearly 0
        words.insert(0, f"{100 * float(cyclic_share(skew)):.0f} % of its triads are cycles")
    return "; ".join(words)


def _facts(group: Mapping[str, Any]) -> list[str]:
    facts = [f"τ = {group['tau']:g}"] if group.get("tau") is not None else []
    if group.get("scale") is not None:
        facts.append("gate λ = " + ", ".join(f"{value:.2g}" for value in group["scale"]))
    if group.get("forward_tokens") is not None:
        facts.append(f"{group['forward_tokens']:,} forward tokens")
    return facts + [f"{name}: {value}" for name, value in group.get("tags", {}).items()]
