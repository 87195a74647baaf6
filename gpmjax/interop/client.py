"""A client of servers that speak OpenRLHF's reward protocol, such as launch/serve_reward.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpmjax.checks import number
from gpmjax.interop.rewards import Completion
from gpmjax.sampling.fetch import post_json


@dataclass(frozen=True)
class RemoteRewards:
    """A `rewards.Scoring` that sends ``url`` one request per call; the server defines the reward.

    A prompt of one user message is sent as a string, which every server of the protocol understands. A longer
    conversation is sent as a list of messages, which gpmjax's server understands.
    """

    url: str
    timeout: float = 600.0
    """Seconds to wait for a whole answer. It must exceed the server's wait for a complete group."""

    def __post_init__(self):
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url={self.url!r}: must begin with http:// or https://")
        number("timeout", self.timeout, above=0, most=10**6)

    def __call__(self, completions: Sequence[Completion]) -> np.ndarray:
        """See `rewards.Scoring`. Raises OSError, one line that names the URL, without a well-formed answer."""
        if not completions:
            return np.zeros(0)
        plain = [len(prompt) == 1 and prompt[0].role == "user" for prompt, *_ in completions]
        prompts: list[Any] = [
            p[0].content if one else [m._asdict() for m in p] for one, (p, *_) in zip(plain, completions, strict=True)
        ]
        fields = {
            "query": [p + c.text if one else c.text for one, p, c in zip(plain, prompts, completions, strict=True)],
            "prompts": prompts,
            "labels": [completion.reference for completion in completions],
        }
        answer = self._post(fields)
        rewards = answer.get("rewards") if isinstance(answer, dict) else None
        try:
            numbers = np.asarray(rewards, np.float64)
        except (TypeError, ValueError, OverflowError):
            numbers = np.array(np.nan)
        if numbers.shape != (len(completions),) or not np.isfinite(numbers).all():
            raise OSError(f"{self.url}: malformed answer, rewards are not {len(completions)} numbers ({rewards!r:.60})")
        return numbers

    def _post(self, fields: dict[str, list]) -> object:
        try:
            return post_json(self.url, fields, timeout=self.timeout, total=self.timeout)
        except OSError as error:
            raise OSError(f"{self.url}: {error}") from error
        except ValueError as error:
            raise OSError(f"{self.url}: malformed answer ({error})") from error
