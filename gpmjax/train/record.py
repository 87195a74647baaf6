"""A run's record: everything that gives parameters and step numbers their meaning, and so must not change on
resumption.

A record is a JSON object. It is saved with every checkpoint of a fit, and once in the work directory of a policy
optimisation. Files count by their contents, not by their names; so a model or a data set may be moved.
"""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gpmjax.config import Config, OptimizerConfig
from gpmjax.data.encode import EncodedGroup
from gpmjax.models.spec import PreferenceSpec

FIT_MAY_CHANGE = (
    "mesh, hosts, optimizer.accumulate, how the model is computed (attention, remat, unroll), log_every, eval_every, "
    "checkpoint.*, export*, further evaluation sets, and where files lie"
)
HOW_IT_RUNS = ("accumulate", "attention", "remat", "unroll", "feature_cache", "source", "tokenizer")
"""Fields that change rounding alone; and names of files, whose contents are recorded."""


def groups_identity(sources: Sequence[Sequence[EncodedGroup]]) -> str:
    """Training data as a model reads them: their number, and a digest of all tokens and labels.

    The groups are those that every host prepares, before they are dealt out, so hosts and meshes do not matter. It
    reads all tokens, which takes a small part of the time of tokenising (sha256 reads 0.4 GB/s or more on one core).

    >>> groups_identity([[EncodedGroup(np.array([1, 2], np.int32), 1, (), ())]])
    '1 groups, 0 comparisons, digest 51c2e7219d17c686'
    """
    found, groups, comparisons = hashlib.sha256(), 0, 0
    for source in sources:
        for group in source:
            groups, comparisons = groups + 1, comparisons + len(group.comparisons)
            lengths = [
                len(group.prompt),
                group.prompt_end,
                len(group.responses),
                *map(len, group.responses),
                len(group.comparisons),
            ]
            for numbers in (lengths, group.prompt, *group.responses):
                found.update(np.asarray(numbers, "<i4").tobytes())
            labels = [[c.chosen, c.rejected, c.target, c.margin, c.weight] for c in group.comparisons]
            found.update(np.asarray(labels, "<f8").tobytes())
        found.update(b"next source")
    return f"{groups} groups, {comparisons} comparisons, digest {found.hexdigest()[:16]}"


def fit_record(
    config: Config,
    spec: PreferenceSpec,
    steps: int,
    base: str,
    train: Sequence[Sequence[EncodedGroup]],
    ranked_by: Sequence[EncodedGroup] | None,
) -> dict[str, Any]:
    """The record of a fit.

    Args:
      base: the base model's fingerprint.
      ranked_by: the groups of the first evaluation set, whose figures checkpoints are ranked by.
    """
    model = recorded_fields(
        config.model, without=("source", *(field.name for field in dataclasses.fields(PreferenceSpec)))
    )
    data = recorded_fields(config.data, without=("eval",))
    record: dict[str, Any] = {
        "seed": config.seed,
        "spec": spec.to_dict(),
        "model": model | {"base": base},
        "data": data | {"content": groups_identity(train)},
        "loss": recorded_fields(config.loss),
        "optimizer": recorded_fields(config.optimizer, without=("warmup_fraction",))
        | schedule_facts(config.optimizer, steps),
    }
    if ranked_by is not None:
        record["ranked_by"] = groups_identity([ranked_by])
    return json.loads(json.dumps(record))


def schedule_facts(config: OptimizerConfig, steps: int) -> dict[str, int]:
    """The numbers of steps that the learning rate depends on; a constant rate does not depend on the last step."""
    warmup = {"warmup_steps": round(config.warmup_fraction * steps)}
    return warmup if config.schedule == "constant" else warmup | {"steps": steps}


def refuse_changes(
    place: str, saved: Mapping[str, Any], mine: Mapping[str, Any], may_change: str = FIT_MAY_CHANGE
) -> None:
    """Compares the record of a run with that of its resumption. It warns of fields that were not recorded then.

    Raises:
      ValueError: something has changed; one line that names the field, the old value and the new one.
    """
    earlier, later = flat(saved), flat(mine)
    if "data.content" in earlier:
        later = {name: value for name, value in later.items() if name != "data.train"}
    for name, value in later.items():
        if name in earlier and earlier[name] != value:
            raise ValueError(
                f"{place}: was begun with {name}={earlier[name]}, this config has {value}; go on with the config that "
                f"it was begun with, or use a new --workdir ({may_change} may change)"
            )
    if unknown := [name for name in later if name not in earlier]:
        named = ", ".join(unknown[:6]) + (f" and {len(unknown) - 6} more" if len(unknown) > 6 else "")
        logging.warning(
            "%s: was begun by another version, which did not record %s; whether they changed is not checked",
            place,
            named,
        )


def flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted names and values; lists are values.

    >>> flat({"loss": {"objective": "verdict"}, "seed": 0})
    {'loss.objective': 'verdict', 'seed': 0}
    """
    found: dict[str, Any] = {}
    for name, value in record.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def recorded_fields(config: Any, without: Iterable[str] = ()) -> dict[str, Any]:
    """The fields of a config that are recorded as they are."""
    left_out = {*HOW_IT_RUNS, *without}
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in left_out}
