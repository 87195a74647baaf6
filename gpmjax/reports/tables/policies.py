"""Summaries of policies as tables for people, in the columns of AlpacaEval and MT-Bench."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text


def win_table(policies: Sequence[Mapping[str, Any]], reference: str) -> Table:
    """Win rate, mean probability and share of answers won, and length-controlled win rate, with 95 % intervals; average length."""
    table = Table(
        title=f"against {reference}", title_justify="left", caption=Text(_win_caption(policies)), caption_justify="left"
    )
    table.add_column("policy", overflow="fold")
    in_tokens = all("tokens" in policy["lengths"] for policy in policies)
    units = ["characters", "tokens"] if in_tokens else ["characters"]
    for name in ("n", "win rate", "95 %", "discrete", "LC win rate", "s.e.", "95 %", *units):
        table.add_column(name, justify="right", no_wrap=True)
    for policy in policies:
        won, controlled = policy["win_rate"], policy["length_controlled"]
        table.add_row(
            Text(policy["generator"]),
            str(won["comparisons"]),
            f"{won['win_rate']:.2f}",
            _interval(won["interval"], 2),
            _number(won.get("discrete_win_rate")),
            "–" if controlled is None else f"{controlled['win_rate']:.2f}",
            "–" if controlled is None else _number(controlled.get("standard_error")),
            "–" if controlled is None else _interval(controlled["interval"], 2),
            *(f"{policy['lengths'][unit]['policy']['mean']:.0f}" for unit in units),
        )
    return table


def grade_table(policies: Sequence[Mapping[str, Any]]) -> Table:
    """Mean ratings of both turns and of all, each with its 95 % interval."""
    table = Table(
        title="MT-Bench, ratings from 1 to 10",
        title_justify="left",
        caption=_rows_caption(policies),
        caption_justify="left",
    )
    table.add_column("policy", overflow="fold")
    for name in ("ratings", "1st turn", "95 %", "2nd turn", "95 %", "average", "95 %"):
        table.add_column(name, justify="right", no_wrap=True)
    for policy in policies:
        cells = []
        for name in ("first_turn", "second_turn", "average"):
            figures = policy[name]
            cells += ["–", "–"] if figures is None else [f"{figures['mean']:.2f}", _interval(figures["interval"], 2)]
        table.add_row(Text(policy["model"]), str(policy["rows"]["ratings"]), *cells)
    return table


def cost_line(cost: Mapping[str, Any]) -> str:
    """What the judging took: all of it, and this run's part.

    >>> part = {"answers": 2, "prompt_tokens": 900, "completion_tokens": 2, "uncounted": 0, "price": 0.01}
    >>> cost_line({**part, "this_run": part})
    'judged by 2 answers: 900 + 2 tokens, 0.0100; of these now: 2 answers, 900 + 2 tokens, 0.0100'
    """
    said = lambda c: f"{c['prompt_tokens']} + {c['completion_tokens']} tokens, {c['price']:.4f}"
    line = f"judged by {cost['answers']} answers: {said(cost)}"
    line += f"; of these now: {cost['this_run']['answers']} answers, {said(cost['this_run'])}"
    return line + (f"; {cost['uncounted']} answers came without a count" if cost["uncounted"] else "")


def _win_caption(policies: Sequence[Mapping[str, Any]]) -> str:
    models = {policy["length_controlled"]["formula"] for policy in policies if policy["length_controlled"]}
    controlled = "".join(f"LC: logistic in {model}, s.e. of the predictions alone; " for model in sorted(models))
    for policy in policies:
        if policy["length_controlled"] is None:
            controlled += f"no LC for {policy['generator']}: {policy.get('no_length_controlled', 'too few verdicts')}; "
    counts = "win rate: mean probability; discrete: share of answers won, a tie one half"
    return controlled + counts + _after(_rows_caption(policies))


def _rows_caption(policies: Sequence[Mapping[str, Any]]) -> str:
    """What is missing from the figures, and how much of it."""
    counts: dict[str, int] = {}
    for policy in policies:
        for name, kind in policy["rows"].items():
            if isinstance(kind, Mapping) and kind["count"]:
                counts[name] = counts.get(name, 0) + kind["count"]
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())


def _after(text: str) -> str:
    return f"; {text}" if text else ""


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _interval(interval: Sequence[float] | None, digits: int) -> str:
    """
    >>> _interval([1.0, 2.25], 1), _interval(None, 1)
    ('1.0–2.2', '–')
    """
    return "–" if interval is None else "–".join(f"{edge:.{digits}f}" for edge in interval)
