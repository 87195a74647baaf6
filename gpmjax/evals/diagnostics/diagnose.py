"""Every diagnostic of a file of judged groups, as one JSON-ready summary."""

from collections.abc import Sequence
from typing import Any

from gpmjax.evals.diagnostics.aspects import aspect_correlations
from gpmjax.evals.diagnostics.blocks import decisive_blocks
from gpmjax.evals.diagnostics.cost import forward_cost
from gpmjax.evals.diagnostics.cycles import count_triads, energy
from gpmjax.evals.diagnostics.edges import edge_decisions
from gpmjax.evals.diagnostics.gate import gate_spectrum
from gpmjax.evals.diagnostics.length import UNITS, length_bias
from gpmjax.evals.diagnostics.records import Record, by_tag, labelled, prompts_of
from gpmjax.evals.diagnostics.symmetry import order_asymmetry
from gpmjax.evals.diagnostics.vote_noise import cycles_of_records
from gpmjax.evals.metrics import comparison_figures
from gpmjax.preference.cycle_test import REPLICATES

BREAKDOWN = ("subset", "group", "config")


def diagnose(
    records: Sequence[Record], *, by: Sequence[str] = BREAKDOWN, replicates: int = REPLICATES
) -> dict[str, Any]:
    """The summary of judged groups.

    Args:
      records: records of one judge, see `records`.
      by: tags to break figures down by.
      replicates: number of replicates of the tests of cycles, see `vote_noise`; 0 leaves the tests out.
    Returns:
      ``groups``, ``responses``, ``truncated`` (groups), ``identical`` (comparisons of a response with itself, which are
      left out); with labelled comparisons the figures of `metrics.comparison_figures` of their skew scores; and
      ``diagnosis`` with ``triads``, ``energy``, ``gate``, ``blocks``, ``cycles``, ``edges``, ``aspects``, ``length``,
      ``symmetry`` and ``cost`` as the functions of those files return them, the first four also ``by`` tag and value.
      ``triads`` and ``energy`` describe the model. ``cycles`` tests the labels (None without replicates).
    Raises:
      ValueError: no record, records of several temperatures, or of embeddings of several sizes.
    """
    if not records:
        raise ValueError("records: there are none")
    if len(taus := {record["tau"] for record in records}) > 1:
        raise ValueError(f"tau: {sorted(taus)} in one file, must be one judge's")
    return {
        "groups": len(records),
        "responses": sum(len(record["tokens"]) for record in records),
        "truncated": sum(bool(record.get("truncated")) for record in records),
        "identical": sum(i == j for record in records for i, j, _ in record["comparisons"]),
        **_labelled_figures(records, taus.pop(), by),
        "diagnosis": {
            **_structure(records),
            "cycles": cycles_of_records(records, replicates=replicates) if replicates else None,
            "edges": edge_decisions(records),
            "aspects": aspect_correlations(records),
            "length": length_bias(records),
            "symmetry": order_asymmetry(records),
            "cost": forward_cost(records),
            "by": {
                tag: {value: _structure(part) for value, part in parts.items()}
                for tag, parts in by_tag(records, by).items()
            },
        },
    }


def _structure(records: Sequence[Record]) -> dict[str, Any]:
    return {
        "triads": count_triads(records),
        "energy": energy(records),
        "gate": gate_spectrum(records),
        "blocks": decisive_blocks(records),
    }


def _labelled_figures(records: Sequence[Record], tau: float, by: Sequence[str]) -> dict[str, Any]:
    known = labelled(records)
    if not len(known.score):
        return {"comparisons": 0, "tau": tau}
    return comparison_figures(
        known.score,
        known.target,
        tau,
        lengths={unit: known.of_responses(records, unit) for unit in UNITS},
        tags=[records[r]["tags"] for r in known.record],
        prompts=prompts_of(records, known),
        by=by,
    )
