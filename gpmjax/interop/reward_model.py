"""`RewardModel` is a judge and what its rewards mean, made in a call, or of the environment (`from_environment`).

    GPMJAX_MODEL=runs/gpm/model GPMJAX_AGAINST=reference       the model, loaded in this process when it is first asked
    GPMJAX_URL=http://localhost:5000/get_reward                launch/serve_reward.py, which is told all the rest itself

and GPMJAX_ with the name of any other field of `RewardModel`, and so of gpmjax.config.judge.JudgeConfig: GPMJAX_UNITS,
GPMJAX_DECLARE, GPMJAX_MAX_LENGTH, GPMJAX_RATIONALES, ….
"""

import dataclasses
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpmjax.config.judge import DECLARED, JudgeConfig, declarations
from gpmjax.interop.client import RemoteRewards
from gpmjax.interop.rewards import Completion, RewardPlan, Rewards, Scoring
from gpmjax.interop.templated import templated
from gpmjax.judges.open import open_judge
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


@dataclasses.dataclass(unsafe_hash=True)
class RewardModel(JudgeConfig):
    """A judge and what its rewards mean. The judge is opened at the first call, once a process; until then this can be
    pickled.

    ``RewardModel("runs/gpm/model", against="group")`` is a `Scoring`.

    Raises ValueError, one line naming the field, for settings that do not go together.
    """

    url: str = ""
    """A reward server to ask in place of a judge."""
    against: str = ""
    """"group", "reference" or "nothing", see gpmjax.interop.rewards."""
    units: str = "log_odds"
    """"log_odds", "score" or "win_rate", see gpmjax.interop.rewards."""
    prompts: str = "user"
    """What a prompt is that OpenRLHF hands over: a message of the "user", or a "templated" text
    (gpmjax.interop.templated)."""
    ending: str = ""
    """What the policy ends its answers with and is no part of their text, such as "<|eot_id|>"; OpenRLHF leaves it
    on."""
    rows_per_batch: dataclasses.InitVar[int | None] = None
    """Another name of ``rows``."""

    def __post_init__(self, rows_per_batch: int | None) -> None:
        self.rows = self.rows if rows_per_batch is None else rows_per_batch
        if isinstance(self.declare, tuple):  # pairs (field, value)
            given, self.declare = dict(self.declare), ""
            fields = {name: given.pop(name) for name in tuple(given) if name in DECLARED}
            self.declare = ",".join(f"{name}={value}" for name, value in given.items())
            for name, value in fields.items():
                setattr(self, name, value)
        if bool(self.label) == bool(self.url):
            names = f"in the environment {PREFIX}MODEL or {PREFIX}URL"
            raise ValueError(f"model is {self.label!r} and url is {self.url!r}; one of them must be given, {names}")
        require_one_of("prompts", self.prompts, PROMPTS)
        if self.label:
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
        judge = open_judge(self)
        plan = RewardPlan(self.against, self.units)
        if self.prompts == "user":
            return Opened(Rewards(judge, plan))
        judge, header = templated(judge)
        return Opened(Rewards(judge, plan), header)


def from_environment(environ: Mapping[str, str] = os.environ) -> RewardModel:
    """The reward model that the GPMJAX_… variables name.

    >>> environ = {"GPMJAX_MODEL": "m", "GPMJAX_AGAINST": "group", "GPMJAX_DECLARE": "gate=softmax,tau=0.1"}
    >>> from_environment(environ).declared()
    {'gate': 'softmax', 'tau': 0.1}

    Raises ValueError, one line naming the variable, for one that does not exist or cannot be read.
    """
    kinds = {"model": str, "url": str} | {field.name: type(field.default) for field in dataclasses.fields(RewardModel)}
    kinds["rows_per_batch"] = int
    given = {}
    for variable, value in environ.items():
        if not variable.startswith(PREFIX):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in kinds:
            raise ValueError(
                f"{variable}: no such setting; there are {', '.join(PREFIX + field.upper() for field in kinds)}"
            )
        try:
            given[name] = _read(name, kinds[name], value)
        except ValueError as error:
            raise ValueError(f"{variable}={value!r}: {error}") from error
    return RewardModel(**given)


def _read(name: str, kind: type, value: str) -> Any:
    if name == "declare":
        return tuple(declarations(value).items())
    return tuple(value.split(",")) if kind is tuple else kind(value)
