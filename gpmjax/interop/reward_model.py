"""A model whose rewards are read as declared: said in a call, or, where a framework loads a file by its path, in the environment.

    GPMJAX_MODEL=runs/gpm/model GPMJAX_AGAINST=reference       the model, loaded in this process when it is first asked
    GPMJAX_URL=http://localhost:5000/get_reward                launch/serve_reward.py, which is told all the rest itself

and, as `RewardModel` describes them, GPMJAX_UNITS, GPMJAX_PROMPTS, GPMJAX_ENDING, GPMJAX_DECLARE, GPMJAX_MAX_LENGTH,
GPMJAX_ROWS_PER_BATCH, GPMJAX_DTYPE, GPMJAX_TEMPLATE and GPMJAX_TOKENIZER.
"""

import dataclasses
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpmjax.interop.client import RemoteRewards
from gpmjax.interop.rewards import Completion, RewardPlan, Rewards, Scoring
from gpmjax.interop.templated import templated
from gpmjax.judges.open import JudgePlan, open_judge
from gpmjax.models.config import require_one_of

PREFIX = "GPMJAX_"
PROMPTS = ("user", "templated")


class Opened(NamedTuple):
    """A scorer, ready."""

    score: Scoring
    header: str | None = None
    """Where prompts are templated: what they end in."""


_OPENED: dict["RewardModel", Opened] = {}
_LOCK = threading.Lock()


@dataclasses.dataclass(frozen=True)
class RewardModel:
    """A scorer that opens itself when it is first asked, once a process; unlike an opened one it can be pickled.

    ``RewardModel("runs/gpm/model", against="group")`` is a `Scoring`.

    Raises ValueError, one line naming the field, for settings that do not go together.
    """

    model: str = ""
    """Anything `gpmjax.hub.open_source` opens."""
    url: str = ""
    """Or a reward server to ask instead."""
    against: str = ""
    """"group", "reference" or "nothing", see gpmjax.interop.rewards."""
    units: str = "log_odds"
    prompts: str = "user"
    """What a prompt is that OpenRLHF hands over: a message of the "user", or a "templated" text (gpmjax.interop.templated)."""
    ending: str = ""
    """What the policy ends its answers with and is no part of their text, such as "<|eot_id|>"; OpenRLHF leaves it on."""
    declare: tuple[tuple[str, Any], ...] = ()
    """Fields of the preference head that the checkpoint does not say itself; in the environment, gate=softmax,tau=0.1."""
    max_length: int = 0
    """0: 2,048, or the model's positions where it has fewer."""
    rows_per_batch: int = 8
    dtype: str = "float32"
    template: str = "chat"
    tokenizer: str = ""
    """Where the tokenizer comes from; empty: from ``model``."""

    def __post_init__(self):
        if bool(self.model) == bool(self.url):
            names = f"in the environment {PREFIX}MODEL or {PREFIX}URL"
            raise ValueError(f"model is {self.model!r} and url is {self.url!r}; one of them must be given, {names}")
        require_one_of("prompts", self.prompts, PROMPTS)
        if self.model:
            RewardPlan(self.against, self.units)

    def __call__(self, completions: Sequence[Completion]) -> np.ndarray:
        """See `rewards.Scoring`. Raises ValueError where prompts are declared templated: these are conversations."""
        if self.prompts == "templated":
            raise ValueError(
                "prompts='templated' is for the strings of OpenRLHF and rewardbench; for conversations say 'user'"
            )
        return self.opened().score(completions)

    def opened(self) -> Opened:
        """The scorer itself; the first caller loads it while others wait.

        Raises FileNotFoundError or ValueError, one line, for a model that cannot be opened.
        """
        with _LOCK:
            if self not in _OPENED:
                _OPENED[self] = self._open()
            return _OPENED[self]

    def _open(self) -> Opened:
        if self.url:
            return Opened(RemoteRewards(self.url))
        judge = open_judge(
            JudgePlan(
                self.model,
                dict(self.declare),
                self.max_length,
                self.rows_per_batch,
                self.dtype,
                self.template,
                tokenizer=self.tokenizer,
            )
        )
        plan = RewardPlan(self.against, self.units)
        if self.prompts == "user":
            return Opened(Rewards(judge, plan))
        judge, header = templated(judge)
        return Opened(Rewards(judge, plan), header)


def from_environment(environ: Mapping[str, str] = os.environ) -> RewardModel:
    """What the GPMJAX_… variables name.

    >>> from_environment({"GPMJAX_MODEL": "m", "GPMJAX_AGAINST": "group", "GPMJAX_DECLARE": "gate=softmax,tau=0.1"}).declare
    (('gate', 'softmax'), ('tau', 0.1))

    Raises ValueError, one line naming the variable, for one that does not exist or cannot be read.
    """
    fields = {field.name: type(field.default) for field in dataclasses.fields(RewardModel)}
    given = {}
    for variable, value in environ.items():
        if not variable.startswith(PREFIX):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in fields:
            raise ValueError(
                f"{variable}: no such setting; there are {', '.join(PREFIX + field.upper() for field in fields)}"
            )
        try:
            given[name] = declarations(value) if name == "declare" else fields[name](value)
        except ValueError as error:
            raise ValueError(f"{variable}={value!r}: {error}") from error
    return RewardModel(**given)


def declarations(text: str) -> tuple[tuple[str, Any], ...]:
    """Fields of a preference head as text.

    >>> declarations("normalise=l2,tau=0.1,bos_tokens=2")
    (('normalise', 'l2'), ('tau', 0.1), ('bos_tokens', 2))
    """
    pairs = [item.partition("=") for item in text.split(",") if item]
    if not all(name and equals for name, equals, _ in pairs):
        raise ValueError("must read field=value, several joined by ','")
    read = {"tau": float, "bos_tokens": int}
    return tuple((name, read.get(name, str)(value)) for name, _, value in pairs)
