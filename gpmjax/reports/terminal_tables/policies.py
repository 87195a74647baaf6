"""Terminal tables of policies, in the columns of AlpacaEval and MT-Bench."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from gpmjax.reports.numbers import EMPTY, decimals


def win_table(policies: Sequence[Mapping[str, Any]], reference: str) -> Table:
    """One line per policy: win rate, share of answers won, length-controlled win rate, average length.

    The win rate is the mean probability of winning. Win rates come with 95 % intervals.
    """
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
            decimals(won["win_rate"], 2),
            _interval(won["interval"]),
            decimals(won.get("discrete_win_rate"), 2),
            EMPTY if controlled is None else decimals(controlled["win_rate"], 2),
            EMPTY if controlled is None else decimals(controlled.get("standard_error"), 2),
            EMPTY if controlled is None else _interval(controlled["interval"]),
            *(decimals(policy["lengths"][unit]["policy"]["mean"], 0) for unit in units),
        )
    return table


def grade_table(policies: Sequence[Mapping[str, Any]]) -> Table:
    """One line per policy: mean ratings of the first turn, the second turn and both, each with its 95 % interval."""
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
            cells += [EMPTY] * 2 if figures is None else [decimals(figures["mean"], 2), _interval(figures["interval"])]
        table.add_row(Text(policy["model"]), str(policy["rows"]["ratings"]), *cells)
    return table


def cost_line(cost: Mapping[str, Any]) -> str:
    """Tokens and price of the judging, in total and in this run.

    >>> part = {"answers": 2, "prompt_tokens": 900, "completion_tokens": 2, "uncounted": 0, "price": 0.01}
    >>> cost_line({**part, "this_run": part})
    'judged by 2 answers: 900 + 2 tokens, 0.0100; of these now: 2 answers, 900 + 2 tokens, 0.0100'
    """
    line = f"judged by {cost['answers']} answers: {_tokens_and_price(cost)}"
    line += f"; of these now: {cost['this_run']['answers']} answers, {_tokens_and_price(cost['this_run'])}"
    return line + (f"; {cost['uncounted']} answers came without a count" if cost["uncounted"] else "")


def _tokens_and_price(cost: Mapping[str, Any]) -> str:
    return f"{cost['prompt_tokens']} + {cost['completion_tokens']} tokens, {cost['price']:.4f}"


def _win_caption(policies: Sequence[Mapping[str, Any]]) -> str:
    models = {policy["length_controlled"]["formula"] for policy in policies if policy["length_controlled"]}
    controlled = "".join(f"LC: logistic in {model}, s.e. of the predictions alone; " for model in sorted(models))
    for policy in policies:
        if policy["length_controlled"] is None:
            controlled += f"no LC for {policy['generator']}: {policy.get('no_length_controlled', 'too few verdicts')}; "
    counts = "win rate: mean probability; discrete: share of answers won, a tie one half"
    missing = _rows_caption(policies)
    return controlled + counts + (f"; {missing}" if missing else "")


def _rows_caption(policies: Sequence[Mapping[str, Any]]) -> str:
    """Counts of the rows that are missing from the figures, by reason."""
    counts: dict[str, int] = {}
    for policy in policies:
        for name, kind in policy["rows"].items():
            if isinstance(kind, Mapping) and kind["count"]:
                counts[name] = counts.get(name, 0) + kind["count"]
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())


def _interval(interval: Sequence[float] | None) -> str:
    """
    >>> _interval([1.0, 2.25]), _interval(None)
    ('1.00–2.25', '–')
    """
    return EMPTY if interval is None else "–".join(decimals(end, 2) for end in interval)
