"""Tables 1, 2 and 7 of the paper, filled with measured results.

1  Bradley–Terry and GPM by dimension, on cyclic sets (on every set that is no benchmark with sections)
2  the same on a benchmark with sections, such as RewardBench: a column per section and their average, a table per base
   model
7  the ablation of scale gate × unit length × dimension: a table per base model and set on which at least two of the
four
   combinations of gate and unit length were measured
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from gpmjax.reports.numbers import EMPTY
from gpmjax.reports.paper_tables.documents import Figure, Result
from gpmjax.reports.paper_tables.estimate import estimate
from gpmjax.reports.paper_tables.model_settings import ModelSettings
from gpmjax.reports.paper_tables.render import Table, TableCell, TableRow

T = TypeVar("T")
NAMES = {"bt": "BT", "gpm": "GPM", "hybrid": "Hybrid", "pairwise": "PairPM"}
VERIFIER = "GenRM"
"""Name of a scalar model that answers a question about one response."""
AVERAGE = "Average"
# Sections in the paper's order. Others come after them in alphabetical order.
SECTIONS = ("Chat", "Chat Hard", "Safety", "Reasoning")

Seeds = Mapping[ModelSettings, Sequence[Result]]
"""Results that differ in their seed alone."""


def paper_tables(results: Sequence[Result], numbers: Iterable[int] = (1, 2, 7)) -> list[Table]:
    """The tables of these numbers that there are results for."""
    return [table for number in numbers for table in TABLES[number](results)]


def cyclic_table(results: Sequence[Result]) -> list[Table]:
    """Table 1: a block of rows per set, a row per model; notes give the chance level and each set's scalar ceiling."""
    results = [result for result in results if not result.sections]
    if not results:
        return []
    rows = []
    for (base, name), same in _parts(results, lambda result: (result.settings.base, result.set)).items():
        names = _names({result.settings for result in same})
        rows += [
            TableRow((base, name, names[settings], str(settings.dim), str(len(seeds))), (cell,), block=f"{base} {name}")
            for settings, seeds, (cell,) in _lines(same, [_total])
        ]
    ceilings = {result.set: result.ceiling for result in results if result.ceiling is not None}
    notes = [f"no scalar can pass {100 * ceiling:.1f} on {name}" for name, ceiling in ceilings.items()]
    labels = ("base", "dataset", "model", "2k", "seeds")
    title = "Table 1: Bradley–Terry and general preference models, by set and dimension."
    return [
        _without_empty(Table("table1", title, labels, ("accuracy",), tuple(rows), notes=("chance is 50.0", *notes)))
    ]


def section_tables(results: Sequence[Result]) -> list[Table]:
    """Table 2: a row per model, a column per section of the benchmark."""
    tables = []
    results = [result for result in results if result.sections]
    for (name, base), same in _parts(results, lambda result: (result.set, result.settings.base)).items():
        names = _names({result.settings for result in same})
        columns = _columns(same)
        rows = [
            TableRow((names[settings], str(settings.dim), str(len(seeds))), cells)
            for settings, seeds, cells in _lines(same, list(columns.values()))
        ]
        title = f"Table 2: Bradley–Terry and general preference models by dimension on {name}."
        title += f" Base model: {base or 'not said'}."
        tables.append(
            Table(f"table2_{_slug(name, base)}", title, ("model", "2k", "seeds"), tuple(columns), tuple(rows))
        )
    return tables


def ablation_tables(results: Sequence[Result]) -> list[Table]:
    """Table 7: gate × unit length × dimension, below Bradley–Terry where it was measured."""
    tables = []
    for (name, base), same in _parts(results, lambda result: (result.set, result.settings.base)).items():
        if len({(r.settings.gate, r.settings.normalise) for r in same if r.settings.kind == "gpm"}) < 2:
            continue
        columns = _columns(same)
        names = _names({_plain(result.settings) for result in same})
        rows = [
            TableRow(
                (names[_plain(settings)], *_ablated(settings), str(settings.dim), str(len(seeds))),
                cells,
                (_nll(seeds),),
            )
            for settings, seeds, cells in _lines(same, list(columns.values()))
        ]
        labels = ("model", "scale gate", "l2", "2k", "seeds")
        title = f"Table 7: scale gate, unit length and dimension on {name}. Base model: {base or 'not said'}."
        tables.append(Table(f"table7_{_slug(name, base)}", title, labels, tuple(columns), tuple(rows), ("NLL",)))
    return tables


TABLES: Mapping[int, Callable[[Sequence[Result]], list[Table]]] = {
    1: cyclic_table,
    2: section_tables,
    7: ablation_tables,
}


def _parts(results: Iterable[Result], key: Callable[[Result], tuple]) -> dict[tuple, list[Result]]:
    parts: dict[tuple, list[Result]] = {}
    for result in results:
        parts.setdefault(key(result), []).append(result)
    return parts


def _columns(results: Sequence[Result]) -> dict[str, Callable[[Result], Figure | None]]:
    """Name → reader of the figure, for each section that some result has, then for the average."""
    present = {_known(name) for result in results for name in result.sections}
    ordered = [name for name in SECTIONS if name in present] + sorted(present - set(SECTIONS))
    sections = {name: functools.partial(_section, name=name) for name in ordered}
    return sections | {AVERAGE if ordered else "accuracy": _total}


def _total(result: Result) -> Figure:
    return result.total


def _known(name: str) -> str:
    """The paper's spelling of a section's name.

    >>> _known("chat-hard"), _known("Ties")
    ('Chat Hard', 'Ties')
    """
    return next((known for known in SECTIONS if _letters(known) == _letters(name)), name)


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.lower()))


def _section(result: Result, name: str) -> Figure | None:
    return next((figure for found, figure in result.sections.items() if _known(found) == name), None)


def _lines(
    results: Sequence[Result], columns: Sequence[Callable[[Result], Figure | None]]
) -> list[tuple[ModelSettings, Sequence[Result], tuple[TableCell | None, ...]]]:
    """(settings, results by seed, a cell per column), Bradley–Terry first, then by dimension."""
    seeds: dict[ModelSettings, list[Result]] = {}
    for result in results:
        seeds.setdefault(result.settings, []).append(result)
    order = sorted(seeds, key=_place)
    return [(s, seeds[s], tuple(_cell(s, seeds, column) for column in columns)) for s in order]


def _place(s: ModelSettings) -> tuple:
    return not s.scalar, s.kind, s.question, s.head, s.dim, s.gate == "none", s.gate, s.normalise == "none", s.objective


def _cell(settings: ModelSettings, seeds: Seeds, column: Callable[[Result], Figure | None]) -> TableCell | None:
    """The cell of a column; None unless every seed has the figure, so that a mean is always over all seeds."""
    figures = _all(column(result) for result in seeds[settings])
    if figures is None:
        return None
    mine, base = estimate(figures), _baseline(settings, seeds)
    known = None if base is None else _all(column(result) for result in seeds[base])
    if not known:
        return TableCell(mine)
    return TableCell(mine, mine.mean - float(np.mean([figure.accuracy for figure in known])))


def _baseline(settings: ModelSettings, seeds: Seeds) -> ModelSettings | None:
    """The Bradley–Terry model to compare with: one of the same head and objective, or the only one there is."""
    if settings.scalar:
        return None
    scalars = [s for s in seeds if s.scalar]
    alike = [s for s in scalars if (s.head, s.objective) == (settings.head, settings.objective)]
    return (alike or (scalars if len(scalars) == 1 else [None]))[0]


def _names(settings: Iterable[ModelSettings]) -> dict[ModelSettings, str]:
    """Settings → name in the table: the system, and the fields in which models of that system differ here."""
    systems = {one: _system(one) for one in settings}
    names = {}
    for one, system in systems.items():
        alike = [other for other in systems if systems[other] == system]
        differing = [
            name
            for name in ("question", "head", "gate", "normalise", "objective")
            if len({getattr(s, name) for s in alike}) > 1
        ]
        texts = [
            f"{name} {getattr(one, name)}" if name in ("gate", "normalise") else str(getattr(one, name))
            for name in differing
        ]
        names[one] = ", ".join([system, *(" ".join(text.replace("_", " ").split())[:40] for text in texts if text)])
    return names


def _system(settings: ModelSettings) -> str:
    """The paper's name of the system."""
    return VERIFIER if settings.kind == "bt" and settings.question else NAMES.get(settings.kind, settings.kind)


def _plain(settings: ModelSettings) -> ModelSettings:
    """The settings without those that the ablation has columns for."""
    return settings._replace(gate="none", normalise="none")


def _ablated(settings: ModelSettings) -> tuple[str, str]:
    return (
        (EMPTY, EMPTY)
        if settings.kind not in ("gpm", "hybrid")
        else (settings.gate, "yes" if settings.normalise == "l2" else "no")
    )


def _nll(seeds: Sequence[Result]) -> float | None:
    known = _all(result.nll for result in seeds)
    return None if known is None else float(np.mean(known))


def _all(values: Iterable[T | None]) -> list[T] | None:
    """The values; None where one is missing."""
    found = list(values)
    known = [value for value in found if value is not None]
    return known if len(known) == len(found) else None


def _slug(*words: str) -> str:
    text = "_".join(word for word in words if word)
    return "".join(c if c.isalnum() else "-" for c in text.rsplit("/", 1)[-1]).strip("-")


def _without_empty(table: Table) -> Table:
    """The table without its first label column, the base model, where that is unknown or the same in all rows."""
    bases = {row.labels[0] for row in table.rows}
    if len(bases) > 1:
        return table
    notes = table.notes if bases == {""} else (f"base model {bases.pop()}", *table.notes)
    rows = tuple(dataclasses.replace(row, labels=row.labels[1:]) for row in table.rows)
    return dataclasses.replace(table, labels=table.labels[1:], rows=rows, notes=notes)
