"""Terminal tables of a diagnosis: one line per figure, with its interval and what the figure is over."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from gpmjax.evals.diagnostics.blocks import block_name
from gpmjax.preference.cycle_test import ALPHA
from gpmjax.reports.numbers import EMPTY, decimal_range, decimals, percent, percent_range

Line = tuple[str, str, str, str]


def diagnosis_table(summary: Mapping[str, Any], *, title: str = "") -> Table:
    """The figures of `diagnose.diagnose` over all groups. Breakdowns by tag are in the file alone."""
    table = Table(title=title or None, title_justify="left")
    table.add_column("what", overflow="fold")
    for name in ("value", "95 %", "over"):
        table.add_column(name, justify="right", no_wrap=True)
    found = summary["diagnosis"]
    parts = (
        _labelled(summary),
        _cycles(found),
        _tested(found.get("cycles")),
        _gate(found["gate"]),
        _blocks(found["blocks"]),
        _edges(found["edges"]),
    )
    for lines in (*parts, _aspects(found["aspects"]), _length(found["length"]), _symmetry(found), _cost(found["cost"])):
        for line in lines:
            table.add_row(*line)
        table.add_section()
    return table


def labels_table(summary: Mapping[str, Any], *, title: str = "") -> Table:
    """The figures of `run.diagnose_labels`."""
    table = Table(title=title or None, title_justify="left")
    table.add_column("what", overflow="fold")
    for name in ("value", "expected", "over"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in _tested(summary["cycles"]):
        table.add_row(*line)
    return table


def _labelled(summary: Mapping) -> Iterator[Line]:
    if summary["comparisons"]:
        over = f"{summary['comparisons']} comparisons"
        if summary.get("interval_over") == "prompts":
            over += f", {summary['prompts']} prompts"
        yield "accuracy (ties half)", _percent(summary["accuracy"]), percent_range(summary["accuracy_interval"]), over
        yield "calibration error (ECE)", decimals(summary["ece"]), "", over


def _cycles(found: Mapping) -> Iterator[Line]:
    triads, energy = found["triads"], found["energy"]
    over = f"{triads['triads']} triads, {triads['tied']} tied"
    yield "cyclic triads of the model (coin tosses: 25 %)", *_share(triads["share"]), over
    yield "groups with a cycle of the model", str(triads["groups_with_cycle"]), "", f"{triads['groups']} groups"
    over = f"{energy['groups']} groups, {energy['incomplete']} incomplete"
    chance = _percent(energy["by_chance"])
    yield "cyclic energy of the model, pooled", *_share(energy["cyclic"]), over
    yield f"cyclic energy of the model, mean of groups (noise: {chance})", *_share(energy["mean_cyclic"]), over


def _tested(cycles: Mapping | None) -> Iterator[Line]:
    """Tests against vote noise: of the labels' own cycles, and of the model's cycles in the labels."""
    names = {
        "labels": "cycles of the labels, beyond vote noise",
        "model": "the model's cycles in the labels, beyond vote noise",
    }
    for kind, name in names.items():
        found = (cycles or {}).get(kind)
        if found is None:
            continue
        if found["p"] is None:
            yield name, "nothing to test", "", f"{found['comparisons']} comparisons"
            continue
        verdict = "found" if found["p"] <= ALPHA else "none found"
        over = f"{found['comparisons']} comparisons, {found['replicates']} replicates"
        yield name, f"p = {found['p']:.3f}: {verdict}", "", over
        triads = found["triads"]
        if kind == "labels" and triads["triads"]:
            noise = f"{triads['expected']:,.0f} ± {triads['deviation']:,.0f}"
            name, over = "cyclic triads of the labels; Bradley–Terry + noise", f"{triads['triads']:,} triads"
            yield name, f"{triads['seen']:,}", noise, over


def _gate(gate: Mapping | None) -> Iterator[Line]:
    if gate is None:
        return
    over = f"{gate['prompts']} prompts"
    yield f"effective blocks of {len(gate['blocks'])}, per prompt", decimals(gate["effective_blocks"]["mean"]), "", over
    yield "information of the prompt about the block (nats)", decimals(gate["prompt_information"]), "", over
    for block in gate["blocks"]:
        name = f"λ of {block_name(block['block'])}, ± between prompts"
        yield name, f"{block['mean']:.3f} ± {block['deviation']:.3f}", "", over


def _blocks(blocks: Mapping | None) -> Iterator[Line]:
    if blocks is None:
        return
    over = f"{blocks['pairs']} pairs"
    yield "pairs about which blocks disagree", _percent(blocks["opposed"]), "", over
    for block in blocks["blocks"]:
        name = block_name(block["block"])
        shares = f"{_percent(block['largest'])} / {_percent(block['flips'])}"
        yield f"{name}: largest / turns the verdict", shares, "", over
        if block["accuracy"] is not None:
            alone = _percent(block["accuracy"]), percent_range(block["accuracy_interval"])
            yield f"{name}: accuracy alone", *alone, f"{blocks['labelled']} comparisons"


def _edges(edges: Mapping | None) -> Iterator[Line]:
    for aspect, line in (edges or {}).items():
        name, alone = f"accuracy on edges of {aspect}; each block alone", " / ".join(map(_percent, line["blocks"]))
        yield name, _percent(line["accuracy"]), alone, f"{line['comparisons']} edges"


def _aspects(aspects: Mapping | None) -> Iterator[Line]:
    if aspects is None:
        return
    for line in aspects["table"]:
        chance = EMPTY if line["p_family"] is None else f"p {line['p_family']:.3f} of {aspects['tests']} tests"
        name = f"ρ of {block_name(line['block'])} with {line['aspect']}"
        yield name, decimals(line["spearman"]), decimal_range(line["interval"]), chance


def _length(length: Mapping) -> Iterator[Line]:
    for unit, line in length.items():
        correlation, regression = line["correlation"], line["regression"]
        over = f"{correlation['pairs']} pairs"
        rho = decimals(correlation["spearman"]), decimal_range(correlation["interval"])
        yield f"ρ of score with length in {unit}", *rho, over
        for side in ("longer", "shorter"):
            right = line[f"{side}_right"]
            if right["comparisons"]:
                accuracy = _percent(right["accuracy"]), percent_range(right["interval"])
                yield f"accuracy where the {side} is right ({unit})", *accuracy, f"{right['comparisons']} comparisons"
        if regression is not None:
            figures, over = regression["length"], f"per {regression['scale']:.0f} {unit}"
            log_odds = decimals(figures["coefficient"]), decimal_range(figures["interval"])
            yield "log-odds of length, label held", *log_odds, over


def _symmetry(found: Mapping) -> Iterator[Line]:
    symmetry = found["symmetry"]
    if not symmetry["pairs"]:
        return
    over = f"{symmetry['pairs']} pairs"
    yield "order asymmetry ‖S + Sᵀ‖ / (‖S‖ + ‖Sᵀ‖)", *_share(symmetry["skew_residual"]), over
    yield "one verdict in both orders", *_share(symmetry["consistent"]), over
    yield "verdicts for the first place", *_share(symmetry["first_wins"]), over


def _cost(cost: Mapping) -> Iterator[Line]:
    over = f"{cost['groups']} groups, {cost['responses']} responses"
    yield "forward tokens measured; per response", f"{cost['forward_tokens']}; {cost['per_response']:.0f}", "", over
    for way, tokens in (cost["formula"] or {}).items():
        yield f"forward tokens by formula, {way}", str(tokens), "", f"{cost['known']} groups"


def _share(figure: Mapping) -> tuple[str, str]:
    return _percent(figure["value"]), percent_range(figure["interval"])


def _percent(share: float | None) -> str:
    """A cell of a column whose lines have different units, so the sign stands beside the number."""
    return EMPTY if share is None else f"{percent(share)} %"
