"""Renders a table of accuracies as markdown for people and as CSV for programs."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from gpmjax.reports.numbers import EMPTY, decimals, percent, signed
from gpmjax.reports.paper_tables.estimate import Estimate

BASES = {
    "seeds": "95 % bootstrap over seeds",
    "prompts": "95 % over prompts",
    "comparisons": "95 % bootstrap over comparisons",
    "file": "95 % as in the file: Wilson's, or a benchmark's own",
}
"""`Estimate.basis` → what a note says of such intervals."""


@dataclass(frozen=True)
class TableCell:
    """An accuracy and its difference to the Bradley–Terry model's, as shares of 1."""

    estimate: Estimate
    difference: float | None = None

    def __str__(self) -> str:
        """Mean, difference and interval in per cent.

        >>> str(TableCell(Estimate(0.745, (0.70, 0.79), 1, "comparisons"), 0.056))
        '74.5 (+5.6) [70.0, 79.0]'
        """
        text = percent(self.estimate.mean)
        if self.difference is not None:
            text += f" ({signed(100 * self.difference, 1)})"
        if self.estimate.interval is not None:
            text += f" [{', '.join(map(percent, self.estimate.interval))}]"
        return text


@dataclass(frozen=True)
class TableRow:
    """One model's row."""

    labels: tuple[str, ...]
    """Texts of the table's label columns."""
    cells: tuple[TableCell | None, ...]
    """Cells of its value columns."""
    extra: tuple[float | None, ...] = ()
    """Numbers of its extra columns."""
    block: str = ""
    """Cells are ranked among the rows of the same block."""


@dataclass(frozen=True)
class Table:
    """Rows whose cells are ranked column by column: the highest is bold, the second underlined."""

    name: str
    """The stem of file names: table1, table2_…."""
    title: str
    labels: tuple[str, ...]
    values: tuple[str, ...]
    rows: tuple[TableRow, ...]
    extras: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def rank(self, row: TableRow, column: int) -> int | None:
        """How many different printed numbers of the row's block are higher in a value column; None for an empty
        cell."""
        printed = (_printed(other, column) for other in self.rows if other.block == row.block)
        rivals = {rival for rival in printed if rival is not None}
        own = _printed(row, column)
        return None if own is None else sum(rival > own for rival in rivals)


def _printed(row: TableRow, column: int) -> float | None:
    cell = row.cells[column]
    return None if cell is None else round(100 * cell.estimate.mean, 1)


def to_markdown(table: Table) -> str:
    """The table under its title, with a line of notes. Differences are in round brackets, intervals in square ones.

    >>> row = TableRow(("BT", "1"), (TableCell(Estimate(0.5, None, 1, "")),))
    >>> print(to_markdown(Table("t", "A title.", ("model", "2k"), ("letters",), (row,))))
    **A title.**
    <BLANKLINE>
    | model | 2k | letters |
    |---|---|---:|
    | BT | 1 | **50.0** |
    <BLANKLINE>
    <sub>Per cent; bold the highest, underlined the second.</sub>
    """
    lines = [_line(table.labels + table.values + table.extras)]
    lines.append("|" + "---|" * len(table.labels) + "---:|" * (len(table.values) + len(table.extras)))
    for row in table.rows:
        cells = [_marked(cell, table.rank(row, column)) for column, cell in enumerate(row.cells)]
        lines.append(_line([*map(_escaped, row.labels), *cells, *map(decimals, row.extra)]))
    return f"**{table.title}**\n\n" + "\n".join(lines) + f"\n\n<sub>{notes(table)}</sub>"


def to_csv(table: Table) -> str:
    """The same numbers unrounded, as shares of 1, with a column for each."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    parts = ("", " difference", " low", " high", " seeds", " interval over")
    writer.writerow([*table.labels, *(name + part for name in table.values for part in parts), *table.extras])
    for row in table.rows:
        fields = [field for cell in row.cells for field in _fields(cell)]
        writer.writerow([*row.labels, *fields, *("" if value is None else value for value in row.extra)])
    return out.getvalue()


def notes(table: Table) -> str:
    """One line that explains the table's cells."""
    cells = [cell for row in table.rows for cell in row.cells if cell is not None]
    parts = ["Per cent; bold the highest, underlined the second"]
    if any(cell.difference is not None for cell in cells):
        parts.append("(difference to BT, in points)")
    parts += [f"[{text}]" for basis, text in BASES.items() if any(cell.estimate.basis == basis for cell in cells)]
    return "; ".join([*parts, *table.notes]) + "."


def _fields(cell: TableCell | None) -> list:
    if cell is None:
        return [""] * 6
    low, high = cell.estimate.interval or ("", "")
    difference = "" if cell.difference is None else cell.difference
    return [cell.estimate.mean, difference, low, high, cell.estimate.seeds, cell.estimate.basis]


def _marked(cell: TableCell | None, rank: int | None) -> str:
    if cell is None:
        return EMPTY
    number, space, rest = str(cell).partition(" ")
    if rank is None:
        return f"{number}{space}{rest}"
    return {0: f"**{number}**", 1: f"<u>{number}</u>"}.get(rank, number) + space + rest


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
