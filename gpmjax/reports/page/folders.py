"""Finds runs in directories. A run is a directory with files of a fit or an evaluation.

The runs of one parent directory make a chapter.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gpmjax.files import read_json
from gpmjax.reports.page.examples import ExampleGroup, read_group_records, read_preferences
from gpmjax.reports.paper_tables.results import SKIPPED

# JSON files of a run that are not results.
UNSHOWN = ("config.json", "*.plan.json", "preferences*.json")


class RunFolder(NamedTuple):
    """One run: the contents of its directory."""

    folder: Path
    name: str
    documents: Mapping[str, Mapping[str, Any]]
    """File name → JSON object."""
    examples: tuple[ExampleGroup, ...]


class Chapter(NamedTuple):
    """Runs of one parent directory, shown side by side."""

    title: str
    runs: tuple[RunFolder, ...]


def find_chapters(folders: Sequence[str | Path], examples: int) -> list[Chapter]:
    """Every run in ``folders`` and below, by parent directory, with up to ``examples`` groups of each file of groups.

    Raises:
      FileNotFoundError: a folder is missing, or nothing in any of them is a run.
      ValueError: one line naming a file, and the line or field, that cannot be used.
    """
    found: dict[Path, RunFolder] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such directory")
        for place in _below(folder):
            if place.resolve() not in found and (run := _read_run(place, examples)) is not None:
                found[place.resolve()] = run
    if not found:
        raise FileNotFoundError(
            f"{', '.join(map(str, folders))}: no summary, metrics.jsonl, preferences or group records"
        )
    by_parent: dict[Path, list[RunFolder]] = {}
    for place, run in found.items():
        by_parent.setdefault(place.parent, []).append(run)
    return [Chapter(runs[0].name if len(runs) == 1 else parent.name, tuple(runs)) for parent, runs in by_parent.items()]


def _below(folder: Path) -> Iterator[Path]:
    """The folder and all folders below it."""
    yield folder
    for place in sorted(place for place in folder.iterdir() if place.is_dir() and place.name not in SKIPPED):
        yield from _below(place)


def _read_run(folder: Path, limit: int) -> RunFolder | None:
    shown = (path for path in sorted(folder.glob("*.json")) if not any(path.match(pattern) for pattern in UNSHOWN))
    documents = {path.name: document for path in shown if isinstance(document := read_json(path), dict)}
    examples = [
        *(read_preferences(path) for path in sorted(folder.glob("preferences*.json"))[:limit]),
        *itertools.chain(*(read_group_records(path, limit) for path in sorted(folder.glob("*.groups.jsonl")))),
    ]
    known = [
        name
        for name, document in documents.items()
        if document.keys() & {"eval", "accuracy", "benchmark", "table", "iterations"}
    ]
    if not (known or examples or (folder / "metrics.jsonl").is_file()):
        return None
    return RunFolder(folder, folder.resolve().name, documents, tuple(examples))
