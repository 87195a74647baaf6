"""The record of a policy optimisation (see train.record), WORKDIR/record.json: what must not change on resumption."""

import dataclasses
import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpmjax import hub
from gpmjax.config.improve import ImproveConfig, ScorerConfig
from gpmjax.data.prompts import EncodedPrompt
from gpmjax.files import fingerprint
from gpmjax.train.record import flat, recorded_fields, refuse_changes

MAY_CHANGE = (
    "iterations, mesh, hosts, optimizer.accumulate, how models are computed (attention, remat, unroll, rows), "
    "log_every, checkpoint.*, the endpoint's address, timeout and retries, a judge where there was none, and where "
    "files lie"
)
NOT_SAMPLES = ("rows", "endpoint", "endpoint_model", "timeout", "retries")
NOT_SCORES = (
    "rows", "model", "endpoint", "key_variable", "answer_cache", "timeout", "retries", "backoff", "concurrency"
)  # fmt: skip
"""Fields of rollouts and scorers that alter no sample and no score; and a name, whose files' contents are recorded."""
NAMES = (
    "policy.source",
    "policy.tokenizer",
    "prompts.source",
    "scorer.model",
    "judge.prompts.source",
    "judge.scorer.model",
)
"""Names that are compared where a run's contents were not recorded yet."""


def scorer_identity(config: ScorerConfig, name: str) -> str:
    """A fingerprint of a scorer's files: its model's, or the module that its function is in.

    Raises:
      ValueError, FileNotFoundError: there is no such model or module.
    """
    if config.endpoint:
        return f"{config.endpoint_model}, a chat model"
    if config.model:
        return fingerprint(hub.open_source(config.model).files)
    module = config.function.partition(":")[0]
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError) as error:
        raise ValueError(
            f"config.{name}.function={config.function!r}: {module} cannot be imported ({error})"
        ) from error
    if spec is None:
        raise ValueError(f"config.{name}.function={config.function!r}: there is no module {module} on the Python path")
    return fingerprint([Path(spec.origin)] if spec.has_location and spec.origin else [], module)


def prompts_identity(prompts: Sequence[EncodedPrompt]) -> str:
    """The number of prompts, and a digest of their tokens."""
    found = hashlib.sha256()
    for prompt in prompts:
        found.update(np.asarray([prompt.number, len(prompt.tokens), *prompt.tokens], "<i4").tobytes())
    return f"{len(prompts)} prompts, digest {found.hexdigest()[:16]}"


def improve_record(config: ImproveConfig, contents: Mapping[str, str]) -> dict[str, Any]:
    """The record of a policy optimisation, with dotted names.

    Args:
      contents: fingerprints and digests of what the config names, by dotted name.
    """
    rollout = {name: value for name, value in dataclasses.asdict(config.rollout).items() if name not in NOT_SAMPLES}
    record = {
        "seed": config.seed,
        "epochs": config.epochs,
        "batch": config.batch,
        "export_dtype": config.export_dtype,
        "policy": recorded_fields(config.policy),
        "prompts": recorded_fields(config.prompts),
        "rollout": rollout | {"sampled": _sampled(config.rollout.endpoint)},
        "scorer": recorded_fields(config.scorer, without=NOT_SCORES),
        "loss": recorded_fields(config.loss),
        "optimizer": recorded_fields(config.optimizer),
    }
    if config.judge.asked:
        judge = recorded_fields(config.judge, without=("scorer", "prompts"))
        judge |= {
            "scorer": recorded_fields(config.judge.scorer, without=NOT_SCORES),
            "prompts": recorded_fields(config.judge.prompts),
        }
        record["judge"] = judge
    return json.loads(json.dumps(flat(record) | dict(contents)))


def check_record(config: ImproveConfig, workdir: Path, contents: Mapping[str, str]) -> dict[str, Any]:
    """The contents of WORKDIR/record.json, for a run in ``workdir`` that may go on with ``config``.

    A judge may be added, or left out for a while; the record keeps an earlier judge.

    Raises:
      ValueError: something has changed that gives the finished stages their meaning; one line.
    """
    mine = improve_record(config, contents)
    earlier, compared = _earlier(workdir / "record.json"), mine
    if earlier is None and (earlier := _earlier(workdir / "config.json")) is not None:
        compared = mine | {name: value for name, value in flat(dataclasses.asdict(config)).items() if name in NAMES}
        earlier["rollout.sampled"] = _sampled(earlier.get("rollout.endpoint"))
    if earlier is None:
        return mine
    if not any(name.startswith("judge.") and value for name, value in earlier.items() if "prompts" in name):
        compared = {name: value for name, value in compared.items() if not name.startswith("judge.")}
    elif not config.judge.asked:
        compared = {name: value for name, value in compared.items() if not name.startswith("judge.")}
        mine = {name: value for name, value in earlier.items() if name.startswith("judge.")} | mine
    # A field that an earlier version did not have counts as its default.
    defaults = flat(json.loads(json.dumps(dataclasses.asdict(ImproveConfig()))))
    refuse_changes(str(workdir), defaults | earlier, compared, MAY_CHANGE)
    return mine


def _sampled(endpoint: str | None) -> str:
    return "by an endpoint" if endpoint else "here"


def _earlier(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        return flat(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"{path}: garbled, so the config that the run was begun with is unknown; restore it, or use a new --workdir"
        ) from error
