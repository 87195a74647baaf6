"""A policy answers a benchmark's questions, of one turn or several. Answers on disk are not drawn again."""

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
"""Number of prompts that are answered and written together."""


class Task(NamedTuple):
    """A user's turns, and the temperature they are answered at."""

    turns: tuple[str, ...]
    temperature: float
    where: str


class TurnReply(NamedTuple):
    """A policy's reply to one turn."""

    text: str
    stopped: bool
    """False where the reply was cut at ``max_new_tokens``."""
    seconds: float
    """The time it was drawn, in seconds since 1970."""


def tasks_identity(tasks: Sequence[Task]) -> str:
    """A digest of the tasks' turns and temperatures."""
    text = json.dumps([[task.turns, task.temperature] for task in tasks])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def answer(
    tasks: Sequence[Task], rollout: LocalRollout | HttpRollout, seed: int, path: str, identity: Mapping[str, Any]
) -> list[tuple[TurnReply, ...]]:
    """Each task's replies, one per turn. A turn's prompt holds the turns and replies before it.

    Args:
      rollout: draws one sample per prompt; its temperature is set to each task's.
      seed: a reply depends on the seed, the task's index and the turn, and on nothing else that is drawn.
      path: file of the replies, see `result_files.RowsFile`; replies of the same ``identity`` in it are kept.

    Raises:
      RolloutFailed: a server gave up; its earlier answers are kept.
      ValueError: a prompt that cannot be answered.
    """
    with RowsFile(path, identity) as file:
        replies = {(record["row"], record["turn"]): _reply(record) for record in file.kept}
        for turn in range(max(len(task.turns) for task in tasks)):
            waiting = [n for n, task in enumerate(tasks) if turn < len(task.turns) and (n, turn) not in replies]
            # A rollout has one temperature.
            for temperature in sorted({tasks[n].temperature for n in waiting}):
                same = [n for n in waiting if tasks[n].temperature == temperature]
                at = dataclasses.replace(rollout, plan=dataclasses.replace(rollout.plan, temperature=temperature))
                for start in range(0, len(same), CHUNK):
                    chunk = same[start : start + CHUNK]
                    prompts = [_conversation(tasks[n], [replies[n, t].text for t in range(turn)]) for n in chunk]
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
                        replies[chunk[place], turn] = _reply(record)
    return [tuple(replies[n, turn] for turn in range(len(task.turns))) for n, task in enumerate(tasks)]


def _draw(
    rollout: LocalRollout | HttpRollout, prompts: Sequence[Prompt], seed: int, ids: Sequence[int], where: str
) -> Iterator[tuple[int, Rollouts]]:
    """(place, rollouts) of each answered prompt. The failure of another prompt is raised after them."""
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


def _reply(record: Mapping[str, Any]) -> TurnReply:
    return TurnReply(record["text"], record["stopped"], record["seconds"])
