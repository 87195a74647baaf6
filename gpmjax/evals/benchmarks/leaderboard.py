"""Writes results in the file format of RewardBench's leaderboards.

    FILE.rewardbench.json           subset → score, and "model", "model_type", "chat_template"
    FILE.rewardbench.scores.jsonl   one line per example: id, subset, results, and its scores

Source: scripts/run_rm.py and run_v2.py of https://github.com/allenai/reward-bench.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpmjax.evals.benchmarks.protocol import Leaderboard
from gpmjax.files import replacing, write_json


def leaderboard_paths(out: str | Path) -> tuple[Path, Path]:
    """The files of the results and of the scores.

    >>> [path.name for path in leaderboard_paths("runs/rb.json")]
    ['rb.rewardbench.json', 'rb.rewardbench.scores.jsonl']
    """
    return Path(out).with_suffix(".rewardbench.json"), Path(out).with_suffix(".rewardbench.scores.jsonl")


def write_leaderboard(out: str | Path, board: Leaderboard, identity: Mapping[str, Any]) -> None:
    """Writes both files beside ``out``; ``identity`` is the judge's."""
    results, scores = leaderboard_paths(out)
    facts = {
        "model": identity.get("model"),
        "model_type": _model_type(identity),
        # The authors' name for the tokenizer's own template.
        "chat_template": "tokenizer" if identity.get("template") == "chat" else identity.get("template"),
    }
    write_json(results, facts | board.results)
    with replacing(scores) as partial, partial.open("w", encoding="utf-8") as file:
        for row in board.rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _model_type(identity: Mapping[str, Any]) -> str:
    """The authors' name for a reward model, or for any other model."""
    return "Seq. Classifier" if identity.get("spec", {}).get("kind") == "bt" else "Custom Classifier"
