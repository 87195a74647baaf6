"""TRL: ``reward_funcs`` of its GRPO, RLOO and online trainers, f(prompts, completions, **columns) → list of numbers.

    from trl import GRPOTrainer
    from gpmjax.interop.reward_model import RewardModel
    from gpmjax.interop.trl import TRLReward

    GRPOTrainer(policy, TRLReward(RewardModel("runs/gpm/model", against="group")), …)

As in TRL 1.16.0 (trl/trainer/grpo_trainer.py, _calculate_rewards): called by keyword with prompts, completions, completion_ids,
every other column of the data set as a list, trainer_state, log_extra and log_metric; prompts and completions are strings, or
lists of messages. A call holds this process's share of a batch, in which the num_generations completions of a prompt stand side
by side; let them not be spread over processes (per_device_train_batch_size a multiple of num_generations), or each part is
compared with itself only. A string is taken as the user's one message. A callable object, unlike a closure, can be pickled, as the
asynchronous trainer wants.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gpmjax.data.conversation import beside
from gpmjax.data.messages import read_reply
from gpmjax.interop.rewards import Completion, Scoring
from gpmjax.interop.texts import messages_of


PROMPT_COLUMNS = ("history", "system", "tools")
"""Columns of the data set that belong to the prompt, as in rows that gpmjax reads itself."""


@dataclass(frozen=True)
class TRLReward:
    """A reward function of a `Scoring`, such as a `RewardModel`."""

    score: Scoring
    reference: str | None = None
    """The data set's column with the text to compare with, where rewards are against a reference."""
    name: str = "gpmjax"
    """What TRL logs the rewards as."""

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        """One number a completion.

        Raises ValueError, one line naming the completion and what is wrong with it.
        """
        if len(prompts) != len(completions):
            raise ValueError(
                f"{len(prompts)} prompts with {len(completions)} completions; there must be one prompt for each"
            )
        references = self._references(columns, len(prompts))
        made = []
        for n, (prompt, completion, reference) in enumerate(zip(prompts, completions, references, strict=True)):
            where = f"completion {n}"
            row = {name: columns[name][n] for name in PROMPT_COLUMNS if name in columns}
            turns = beside(row, messages_of(prompt, "prompt", where), where)
            made.append(Completion(turns, read_reply(completion, "completion", where), reference, where))
        return [float(number) for number in self.score(made)]

    def _references(self, columns: dict[str, Any], count: int) -> Sequence[Any]:
        if self.reference is None:
            return [None] * count
        if self.reference not in columns:
            raise ValueError(f"reference={self.reference!r}: no such column; there is {', '.join(columns) or 'none'}")
        return columns[self.reference]
