"""Reads results from files and directories."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from gpmjax.files import read_json, using
from gpmjax.reports.paper_tables.documents import Result, read_document

# Subdirectories of a run that hold no results.
SKIPPED = {"checkpoints", "model", "tensorboard", "features", "plots"}


def read_results(paths: Sequence[str | Path]) -> tuple[list[Result], list[str]]:
    """Results of files, and of all files of the known kinds in directories and below; and remarks on missing figures.

    Raises:
      FileNotFoundError: no such path, or no file of the known kinds in any of them.
      ValueError: one line naming a file that is damaged, a file in ``paths`` that is of no known kind, or two files
        that contradict each other on the same model, set and seed.
    """
    found: dict[tuple, Result] = {}
    remarks: list[str] = []
    for path, named in _files(paths):
        document = read_json(path)
        if not isinstance(document, dict) or (results := read_document(path, document, remarks)) is None:
            if named:
                raise ValueError(
                    f"{path}: neither a summary of a fit, an evaluation or a benchmark, nor a sheet with rows"
                )
            continue
        for result in results:
            with using(path, "a fit, an evaluation or a benchmark"):
                _check(result)
            key = (result.settings, result.set, result.seed)
            before = found.setdefault(key, result)
            if abs(before.total.accuracy - result.total.accuracy) > 1e-9:
                raise ValueError(
                    f"{result.where}: accuracy {result.total.accuracy:.6g} on {result.set}, but {before.where} has "
                    f"{before.total.accuracy:.6g} for the same settings and seed {result.seed}; name only one of them"
                )
    if not found:
        raise FileNotFoundError(
            f"{', '.join(map(str, paths))}: no summary of a fit, an evaluation or a benchmark with figures"
            + "".join(f"; {remark}" for remark in remarks)
        )
    return list(found.values()), remarks


def _check(result: Result) -> None:
    """Raises TypeError for a field that cannot be compared with the same field of other files."""
    fields = result.settings._asdict() | {"seed": result.seed, "set": result.set}
    for name, value in fields.items():
        allowed = {"dim": (int,), "seed": (int, str)}.get(name, (str,))
        if not isinstance(value, allowed):
            raise TypeError(f"{name} is {value!r}")
    for figure in (result.total, *result.sections.values()):
        if figure.outcomes is not None and not all(isinstance(count, int) for count in figure.outcomes):
            raise TypeError(f"wins, ties and losses are {figure.outcomes!r}")
    for name, value in {"nll": result.nll, "ceiling": result.ceiling}.items():
        if value is not None and not isinstance(value, int | float):
            raise TypeError(f"{name} is {value!r}")


def _files(paths: Iterable[str | Path]) -> Iterator[tuple[Path, bool]]:
    """(file, whether ``paths`` names it) of every JSON file."""
    for path in map(Path, paths):
        if path.is_file():
            yield path, True
        elif path.is_dir():
            inside = (file for file in sorted(path.rglob("*.json")) if not SKIPPED & {*file.relative_to(path).parts})
            yield from ((file, False) for file in inside if not file.name.endswith(".plan.json"))
        else:
            raise FileNotFoundError(f"{path}: no such file or directory")
