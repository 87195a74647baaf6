"""A policy answers a benchmark's questions, of one turn or several; what it has said is on disk and is not drawn
again."""

import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from gpmjax.data.groups import Message
from gpmjax.evals.result_files import RowsFile
from gpmjax.sampling.endpoint import HttpRollout
from gpmjax.sampling.rollout import LocalRollout, Prompt, RolloutFailed, Rollouts

CHUNK = 32
"""Prompts that are answered together, and written down together."""


class Task(NamedTuple):
    """What a user says, turn by turn."""

    turns: tuple[str, ...]
    temperature: float
    where: str


class Said(NamedTuple):
    """A policy's reply to one turn."""

    text: str
    stopped: bool
    """False where it ran into ``max_new_tokens``."""
    seconds: float
    """Since 1970, when it was drawn."""


def tasks_identity(tasks: Sequence[Task]) -> str:
    """A name for tasks, by all that a policy is shown of them."""
    shown = json.dumps([[task.turns, task.temperature] for task in tasks])
    return hashlib.sha256(shown.encode()).hexdigest()[:32]


def answer(
    tasks: Sequence[Task], rollout: LocalRollout | HttpRollout, seed: int, path: str, identity: Mapping[str, Any]
) -> list[tuple[Said, ...]]:
    """Each task's replies, one a turn, each turn seeing the replies before it.

    Args:
      rollout: of one sample a prompt; its temperature is set to each task's.
      seed: a reply depends on it, on the task's place and on the turn, not on what else is drawn.
      path: where replies go as they come, see `report.RowsFile`; those that are there, of the same ``identity``, are
        kept.

    Raises:
      RolloutFailed: a server gave up; what it had answered is kept.
      ValueError: a prompt that cannot be answered.
    """
    with RowsFile(path, identity) as file:
        said = {(record["row"], record["turn"]): _said(record) for record in file.kept}
        for turn in range(max(len(task.turns) for task in tasks)):
            waiting = [n for n, task in enumerate(tasks) if turn < len(task.turns) and (n, turn) not in said]
            # One rollout has one temperature.
            for temperature in sorted({tasks[n].temperature for n in waiting}):
                same = [n for n in waiting if tasks[n].temperature == temperature]
                at = dataclasses.replace(rollout, plan=dataclasses.replace(rollout.plan, temperature=temperature))
                for start in range(0, len(same), CHUNK):
                    chunk = same[start : start + CHUNK]
                    prompts = [_conversation(tasks[n], [said[n, t].text for t in range(turn)]) for n in chunk]
                    ids = [n * len(tasks[n].turns) + turn for n in chunk]
                    for place, drawn in _draw(at, prompts, seed, ids, tasks[chunk[0]].where):
                        record = {
                            "row": chunk[place],
                            "turn": turn,
                            "text": drawn.texts[0],
                            "stopped": drawn.stopped[0],
                            "seconds": time.time(),
                        }
                        file.write(record)
                        said[chunk[place], turn] = _said(record)
    return [tuple(said[n, turn] for turn in range(len(task.turns))) for n, task in enumerate(tasks)]


def _draw(
    rollout: LocalRollout | HttpRollout, prompts: Sequence[Prompt], seed: int, ids: Sequence[int], where: str
) -> Iterator[tuple[int, Rollouts]]:
    """(place, rollouts) of each prompt that is answered, before any failure of another is raised."""
    try:
        yield from enumerate(rollout(prompts, seed, ids))
    except RolloutFailed as failure:
        yield from failure.kept.items()
        raise
    except ValueError as error:
        raise ValueError(f"{where} and the {len(prompts) - 1} prompts after it: {error}") from error


def _conversation(task: Task, replies: Sequence[str]) -> Prompt:
    messages = []
    for turn, reply in zip(task.turns, replies, strict=False):
        messages += [Message("user", turn), Message("assistant", reply)]
    return (*messages, Message("user", task.turns[len(replies)]))


def _said(record: Mapping[str, Any]) -> Said:
    return Said(record["text"], record["stopped"], record["seconds"])
