"""A reward function for TRL's GRPO, RLOO and online trainers: f(prompts, completions, **columns) → list of numbers.

    from trl import GRPOTrainer
    from gpmjax.interop.reward_model import RewardModel
    from gpmjax.interop.trl import TRLReward

    GRPOTrainer(policy, TRLReward(RewardModel("runs/gpm/model", against="group")), …)

The signature is that of TRL 1.16.0 (trl/trainer/grpo_trainer.py, _calculate_rewards): called by keyword with prompts,
completions, completion_ids, every other column of the data set as a list, trainer_state, log_extra and log_metric.
Prompts and completions are strings or lists of messages; a string is one user message. A call holds this process's
share of a batch, in which the num_generations completions of a prompt are adjacent. They must not be split over
processes, or each part is compared with itself only: make per_device_train_batch_size a multiple of num_generations.
The function is a callable object because, unlike a closure, it can be pickled, which the asynchronous trainer requires.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gpmjax.data.conversation import beside
from gpmjax.data.messages import read_reply
from gpmjax.interop.rewards import Completion, Scoring
from gpmjax.interop.texts import messages_of

PROMPT_COLUMNS = ("history", "system", "tools")
"""Columns of the data set that belong to the prompt, as in gpmjax's own rows."""


@dataclass(frozen=True)
class TRLReward:
    """TRL's reward function for a `Scoring`, such as a `RewardModel`."""

    score: Scoring
    reference: str | None = None
    """The data set's column that holds the reference, for rewards against a reference."""
    name: str = "gpmjax"
    """The name under which TRL logs the rewards."""

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        """Returns one number per completion.

        Raises ValueError, one line that names the completion and its fault.
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
