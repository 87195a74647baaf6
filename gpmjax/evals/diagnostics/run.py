"""Diagnoses a saved model on a file: judges every pair of responses, writes records as it goes, and summarises."""

import dataclasses
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gpmjax.config.judge import JudgeConfig
from gpmjax.data.chat import ChatFormat
from gpmjax.data.encode import encode_each
from gpmjax.data.group_files import read_groups
from gpmjax.data.grouping import merge_groups
from gpmjax.data.groups import Group
from gpmjax.data.ratings import find_ratings, rated_groups
from gpmjax.data.sources import read_entries
from gpmjax.evals.diagnostics.diagnose import BREAKDOWN, diagnose
from gpmjax.evals.diagnostics.records import read_records
from gpmjax.evals.diagnostics.vote_noise import cycles_of_groups
from gpmjax.evals.result_files import RowsFile, groups_path
from gpmjax.files import fingerprint, write_json
from gpmjax.hub import open_source, tokenizer_for
from gpmjax.judges.judge import group_record
from gpmjax.judges.open import open_judge
from gpmjax.preference.cycle_test import REPLICATES
from gpmjax.progress import track

Ratings = dict[str, list[float]]


@dataclasses.dataclass(frozen=True)
class DiagnosisPlan:
    """The judge to diagnose, and its data."""

    judge: JudgeConfig
    data: str | None = None
    """Anything `gpmjax.data.group_files.read_groups` reads; rows that share a prompt become one group."""
    ratings: str | None = None
    """Rows with ratings of the responses in ``data``, see `gpmjax.data.ratings`; without ``data``, also the groups."""
    by: tuple[str, ...] = BREAKDOWN
    replicates: int = REPLICATES
    """Replicates of the tests of cycles, see `gpmjax.preference.cycle_test`; 0 leaves the tests out."""


def diagnose_model(plan: DiagnosisPlan, out: str | Path) -> dict[str, Any]:
    """Judges all pairs, writes records to `result_files.groups_path(out)` one by one, and the summary to ``out``.

    Records of an earlier run are kept when its judge and data were the same; only the remaining groups are judged.

    Raises:
      FileNotFoundError, ValueError: one line naming the file, field or row, and the allowed values.
    """
    _check_out(out)
    groups, ratings = _read(plan)
    judge = open_judge(plan.judge)
    data = json.dumps([(group.where, group.prompt, group.responses, group.comparisons) for group in groups])
    identity = {
        "judge": dict(judge.identity),
        "data": fingerprint([], data),
        "ratings": fingerprint([], json.dumps(ratings)),
        "pairs": "all",
    }
    with RowsFile(groups_path(out), identity) as file:
        left = groups[len(file.kept) :]
        known = zip(left, _prompt_tokens(left, plan.judge), ratings[len(file.kept) :], strict=True)
        judged = zip(judge(left, "all"), known, strict=True)
        for verdict, (group, tokens, rated) in track(judged, "judging", len(left)):
            file.write({**group_record(group, verdict), "prompt_tokens": tokens, **rated})
    return _write(
        diagnose(read_records(str(groups_path(out))), by=plan.by, replicates=plan.replicates),
        _described(plan, identity),
        out,
    )


def diagnose_file(
    path: str, out: str | Path | None, *, by: Sequence[str] = BREAKDOWN, replicates: int = REPLICATES
) -> dict[str, Any]:
    """Summarises the records of ``path`` again, without a model; the summary is written to ``out`` if it is given."""
    if out is not None:
        _check_out(out)
    return _write(diagnose(read_records(path), by=by, replicates=replicates), {"records": path}, out)


def diagnose_labels(data: str, out: str | Path | None, *, replicates: int = REPLICATES) -> dict[str, Any]:
    """Tests the labels of ``data`` for cycles beyond vote noise, without a model.

    Rows that share a prompt become one group, as in `diagnose_model`. The summary is written to ``out`` if it is given.

    Returns:
      ``data``, ``groups``, ``responses``, ``comparisons``, and ``cycles`` {"labels": see `cycle_test`}.
    Raises:
      FileNotFoundError, ValueError: one line naming the file, field or row, and the allowed values.
    """
    if out is not None:
        _check_out(out)
    groups = merge_groups(read_groups(data))
    figures = {
        "groups": len(groups),
        "responses": sum(len(group.responses) for group in groups),
        "comparisons": sum(len(group.comparisons) for group in groups),
        "cycles": {"labels": cycles_of_groups(groups, replicates=replicates)},
    }
    return _write(figures, {"data": data}, out)


def _check_out(out: str | Path) -> None:
    if Path(out).suffix != ".json":
        raise ValueError(f"out={str(out)!r}: must end in .json; per-group records go beside it in .groups.jsonl")


def _write(figures: dict[str, Any], described: dict[str, Any], out: str | Path | None) -> dict[str, Any]:
    summary = {**described, **figures}
    return summary if out is None else write_json(out, summary)


def _described(plan: DiagnosisPlan, identity: dict[str, Any]) -> dict[str, Any]:
    return {"model": plan.judge.label, "data": plan.data, "ratings": plan.ratings, "identity": identity}


def _read(plan: DiagnosisPlan) -> tuple[list[Group], list[dict[str, Any]]]:
    """The groups to judge, which have a pair, and the further fields of each record: {} or {"ratings": …}."""
    rated = rated_groups(read_entries(plan.ratings)) if plan.ratings else []
    if not plan.data and not rated:
        raise ValueError("data: none is given; must name comparisons, or ratings rated responses")
    merged = merge_groups(read_groups(plan.data) if plan.data else [each.group for each in rated])
    groups = [group for group in merged if len(group.responses) > 1]
    if not groups:
        raise ValueError(f"{plan.data or plan.ratings}: no prompt has two different responses")
    if not rated:
        return groups, [{} for _ in groups]
    found = find_ratings(groups, rated)
    if not any(math.isfinite(value) for ratings in found for values in ratings.values() for value in values):
        raise ValueError(f"{plan.ratings}: none of its prompts and responses is in {plan.data}")
    return groups, [{"ratings": _plain(ratings)} for ratings in found]


def _plain(ratings: Ratings) -> dict[str, list[float | None]]:
    return {aspect: [None if math.isnan(value) else value for value in values] for aspect, values in ratings.items()}


def _prompt_tokens(groups: Sequence[Group], plan: JudgeConfig) -> Iterator[int | None]:
    """Number of tokens of each prompt within the judge's window; None where a function or a server judges."""
    if not plan.model:
        return itertools.repeat(None, len(groups))
    source = open_source(plan.model)
    chat, window = (
        ChatFormat(tokenizer_for(source, plan.tokenizer), template=plan.template),
        plan.window(source.config),
    )
    prompts = (dataclasses.replace(group, responses=(), comparisons=()) for group in groups)
    return (len(encoded.prompt) for encoded, _ in encode_each(prompts, chat, max_length=window))
