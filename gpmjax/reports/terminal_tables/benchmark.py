"""Terminal table of a benchmark's summary."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from gpmjax.evals.benchmarks.protocol import Benchmark
from gpmjax.reports.numbers import percent, percent_range

# The foot names this many malformed rows. The summary file holds more.
NAMED = 3


def benchmark_table(benchmark: Benchmark, summary: Mapping[str, Any], *, title: str = "") -> Group:
    """One line for all rows, one per section and one per subset, with notes below."""
    table = Table(title=title or None, title_justify="left")
    table.add_column(benchmark.name, overflow="fold")
    for name in ("rows", "score %", "95 %", *(f"{column} %" for column in benchmark.columns)):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row(
        "everything", *_cells({**summary, "rows": summary["rows"]["judged"]}, benchmark.columns), style="bold"
    )
    for part in ("sections", "subsets"):
        if summary[part]:
            table.add_section()
        for name, figures in summary[part].items():
            # Text: rich would read brackets in a name as markup.
            table.add_row(Text(name), *_cells(figures, benchmark.columns))
    return Group(table, *map(Text, _notes(summary)))


def _cells(figures: Mapping[str, Any], columns: tuple[str, ...]) -> list[str]:
    return [
        str(figures["rows"]),
        percent(figures["score"]),
        percent_range(figures["interval"]),
        *(percent(figures.get(column)) for column in columns),
    ]


def _notes(summary: Mapping[str, Any]) -> list[str]:
    rows = summary["rows"]
    cut = f"{rows['truncated']} of {rows['judged']} rows were cut"
    lines = [summary["counting"], f"windows of {summary['max_length']} tokens; {cut}"]
    if "order" in summary:
        order = {name: percent(summary["order"][name]) for name in ("consistent", "first_wins")}
        lines.append(
            f"both orders give one verdict in {order['consistent']} %; the first place wins {order['first_wins']} %"
        )
    if "aggregation" in summary:
        lines.append(f"aggregation: {summary['aggregation']}")
    if summary.get("absent"):
        lines.append(f"absent: {', '.join(summary['absent'])}")
    if rows["malformed"]:
        lines.append(f"{rows['malformed']} of {rows['read']} rows are malformed and left out, among them")
        lines += [f"  {row['where']}: {row['reason']}" for row in rows["malformed_at"][:NAMED]]
    return lines
