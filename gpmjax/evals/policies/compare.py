"""Compares policies' answers with a reference's by a judge, and summarises the verdicts.

The judge sees each instruction with two responses, the policy's and the reference's. It is any
`gpmjax.judges.judge.Judge`: a preference model, or a chat model behind a server. A preference model's verdicts are kept
as records, a chat model's answers in its cache, so the same call resumes an interrupted one.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpmjax.data.groups import Group
from gpmjax.evals.intervals import mean_figures
from gpmjax.evals.policies.length_controlled import LEAST, Difficulty, length_controlled, read_difficulty
from gpmjax.evals.policies.outputs import Matched, Outputs, match, named, read_outputs
from gpmjax.evals.policies.win_rate import preference, win_rate
from gpmjax.evals.result_files import RowsFile
from gpmjax.hub import load_tokenizer
from gpmjax.judges.chat import ChatJudge
from gpmjax.judges.judge import Judge, group_record, record_scores
from gpmjax.progress import track


@dataclass(frozen=True)
class ComparePlan:
    """The answers to compare, and further data of the instructions."""

    outputs: tuple[str, ...]
    """Files of answers, one per policy; see `outputs.read_outputs`."""
    reference: str
    """The file of the reference's answers, in the benchmark's order."""
    difficulty: str = ""
    """File of instruction difficulties, see `length_controlled.read_difficulty`; empty: the model has no such term."""
    tokenizer: str = ""
    """Anything `gpmjax.hub.load_tokenizer` opens; empty: lengths are in characters alone."""


def compare(plan: ComparePlan, judge: Judge, out: str | Path) -> list[dict[str, Any]]:
    """Figures of each policy, in the order of the plan; see `figures`.

    Records are written to `records_path`, beside ``out``, one by one.

    Raises:
      FileNotFoundError, ValueError: one line naming the file, row or field.
      OSError: a server gave up; its earlier answers are kept.
    """
    reference, policies = read_outputs(plan.reference), [read_outputs(source) for source in plan.outputs]
    paths = [records_path(out, policy.generator) for policy in policies]
    twin = next((n for n, path in enumerate(paths) if path in paths[:n]), None)
    if twin is not None:
        raise ValueError(
            f"{policies[twin].source}: generator {policies[twin].generator!r} is that of another file of answers"
        )
    difficulty = read_difficulty(plan.difficulty) if plan.difficulty else None
    tokenizer = load_tokenizer(plan.tokenizer) if plan.tokenizer else None
    found = []
    for policy, path in zip(policies, paths, strict=True):
        matched = match(policy, reference)
        records = judge_groups(judge, matched.groups, path)
        found.append(
            {
                "generator": policy.generator,
                "outputs": policy.source,
                **figures(matched, records, difficulty),
                "lengths": _lengths(matched.groups, tokenizer),
                "rows": _rows(policy, reference, matched, records),
            }
        )
    return found


def records_path(out: str | Path, name: str) -> Path:
    """The file of one policy's records.

    >>> str(records_path("runs/compare.json", "me/gpm 2"))
    'runs/compare.me-gpm-2.rows.jsonl'
    """
    return Path(out).with_suffix(f".{re.sub(r'[^A-Za-z0-9_-]+', '-', name)}.rows.jsonl")


def judge_groups(judge: Judge, groups: Sequence[Group], path: Path) -> list[dict[str, Any]]:
    """`judge.group_record` of each group, in order, written to ``path`` one by one; earlier records there are kept."""
    # A chat model's answers are in its cache. The model is asked for all of them, so that all are counted.
    identity = None if isinstance(judge, ChatJudge) else {**judge.identity, "groups": _texts_identity(groups)}
    with RowsFile(path, identity) as file:
        records = list(file.kept)
        rest = groups[len(records) :]
        verdicts = track(judge(rest, "all"), f"judging {path.name}", len(rest))
        for group, verdict in zip(rest, verdicts, strict=True):
            records.append(group_record(group, verdict))
            file.write(records[-1])
    return records


def figures(
    matched: Matched, records: Sequence[Mapping[str, Any]], difficulty: Difficulty | None = None
) -> dict[str, Any]:
    """JSON-ready figures of one policy.

    Returns:
      ``win_rate`` (see `win_rate.win_rate`), ``length_controlled`` (see `length_controlled.length_controlled`; None for
      fewer than ten verdicts, with the reason in ``no_length_controlled``), and win rates ``by`` data set.
    Raises:
      ValueError: no verdict is readable.
    """
    shares = np.array([preference(record_scores(record), record["tau"]) for record in records])
    readable = ~np.isnan(shares)
    if not readable.any():
        raise ValueError(f"{matched.groups[0].where}: none of the {len(records)} verdicts can be read")
    answers, references = ([len(group.responses[side]) for group in matched.groups] for side in (0, 1))
    parts = np.array([str(group.tags.get("dataset", "")) for group in matched.groups])
    datasets = sorted({part for part in parts[readable] if part})
    controlled, missing = None, {"no_length_controlled": f"{readable.sum()} readable verdicts, it needs {LEAST}"}
    if readable.sum() >= LEAST:
        missing = {}
        given: dict[str, Any] = {}
        if difficulty is not None:
            given = {"difficulty": difficulty.of(matched.places), "anchors": difficulty.anchors}
        controlled = length_controlled(shares, answers, references, **given)
    return {
        "win_rate": win_rate(shares[readable]),
        "length_controlled": controlled,
        **missing,
        "by": {"dataset": {part: win_rate(shares[readable & (parts == part)]) for part in datasets}},
    }


def _lengths(groups: Sequence[Group], tokenizer: Any) -> dict[str, Any]:
    """Mean lengths of the policy's and the reference's answers, in characters and, with a tokenizer, in tokens."""
    sides = {"policy": 0, "reference": 1}
    texts = {name: [group.responses[side] for group in groups] for name, side in sides.items()}
    measured = {"characters": {name: mean_figures([len(text) for text in several]) for name, several in texts.items()}}
    if tokenizer is not None:
        tokens = {
            name: tokenizer(several, add_special_tokens=False, verbose=False)["input_ids"]
            for name, several in texts.items()
        }
        measured["tokens"] = {name: mean_figures([len(ids) for ids in each]) for name, each in tokens.items()}
    return measured


def _rows(
    policy: Outputs, reference: Outputs, matched: Matched, records: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Counts of the rows that were read and compared, and places of those that could not be."""
    unreadable = [r["source"] for r in records if np.isnan(preference(record_scores(r), r["tau"]))]
    kinds = {
        "malformed": policy.malformed + reference.malformed,
        "unanswered": matched.unanswered,
        "without_reference": matched.unmatched,
        "unreadable_verdicts": unreadable,
    }
    return {
        "read": len(policy.rows) + len(policy.malformed),
        "compared": len(records) - len(unreadable),
        "truncated": sum(record["truncated"] for record in records),
        **{name: named(places) for name, places in kinds.items()},
    }


def _texts_identity(groups: Sequence[Group]) -> str:
    text = json.dumps([[group.prompt, group.responses] for group in groups])
    return hashlib.sha256(text.encode()).hexdigest()[:32]
