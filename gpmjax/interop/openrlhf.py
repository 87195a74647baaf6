"""OpenRLHF: ``reward_func(queries, prompts, labels)`` in a file, and what its HTTP reward servers are sent and answer.

As in OpenRLHF 0.11.2 (openrlhf/utils/agent.py, openrlhf/cli/serve_rm.py): a query is the prompt and what the policy wrote, decoded
with special tokens. **It asks about one completion a call**, from many threads or requests at a time. So

    python launch/serve_reward.py --model=runs/gpm/model --against=group --group_size=8
    … --reward.remote_url http://localhost:5000/get_reward --rollout.n_samples_per_prompt 8

for rewards within the group: the server holds completions back until the 8 of a prompt are there. This file itself,

    GPMJAX_MODEL=runs/gpm/model GPMJAX_AGAINST=reference … --reward.remote_url PATH/TO/gpmjax/interop/openrlhf.py

for rewards that need no group. It answers lists, as OpenRLHF's own server does. For tensors, as its examples have them, write a
file of your own:

    import torch
    from gpmjax.interop.openrlhf import OpenRLHFReward
    from gpmjax.interop.reward_model import RewardModel
    reward_func = OpenRLHFReward(RewardModel("runs/gpm/model", against="reference"), as_tensor=torch.tensor)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpmjax.data.fields import FieldError, as_list, as_strings
from gpmjax.interop.reward_model import RewardModel, from_environment
from gpmjax.interop.rewards import Completion, Scoring
from gpmjax.interop.templated import without_header
from gpmjax.interop.texts import messages_of


@dataclass(frozen=True)
class OpenRLHFReward:
    """``reward_func`` of a model."""

    model: RewardModel
    as_tensor: Callable[[list[float]], Any] = list
    """What becomes of the rewards: torch.tensor, or a list."""

    def __call__(
        self, queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str], **_: Any
    ) -> dict[str, Any]:
        """{"rewards": [N], "scores": [N], "extra_logs": {}}; labels are the references, where rewards are against one."""
        score, header = self.model.opened()
        completions = read_completions(
            {"query": list(queries), "prompts": list(prompts), "labels": list(labels)}, header, self.model.ending
        )
        return rewards_answer(score, completions, self.as_tensor)


def reward_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str], **_: Any) -> dict[str, Any]:
    """What OpenRLHF looks for in a file; the model is the environment's (gpmjax.interop.reward_model)."""
    return OpenRLHFReward(from_environment())(queries, prompts, labels)


def read_completions(fields: dict[str, Any], header: str | None = None, ending: str = "") -> list[Completion]:
    """The completions of a call, in the HTTP server's words.

    Args:
      fields: "query" [N], "prompts" [N] and, as references, "labels" [N] or nothing. A prompt may also be a conversation in
        {"role", "content"}; its query is then the answer alone.
      header: what prompts end in if they are templated; None: a prompt is a message of the user.
      ending: taken off the end of an answer.

    Raises ValueError, one line naming the field and its place.
    """
    where = "request"
    queries = as_strings(fields.get("query"), "query", where)
    prompts, labels = as_list(fields.get("prompts"), "prompts", where), fields.get("labels")
    labels = [None] * len(queries) if labels is None else as_list(labels, "labels", where)
    for name, values in (("prompts", prompts), ("labels", labels)):
        if len(values) != len(queries):
            raise FieldError(where, name, f"must have as many entries as 'query', {len(queries)}, has {len(values)}")
    made = []
    for n, (query, prompt, label) in enumerate(zip(queries, prompts, labels, strict=True)):
        if isinstance(prompt, str):
            if not query.startswith(prompt):
                raise FieldError(
                    where, f"query[{n}]", f"must begin with its prompt, {prompt!r:.60}, begins {query!r:.60}"
                )
            text = query.removeprefix(prompt)
        else:
            text = query
        if isinstance(prompt, str) and header is not None:
            messages = without_header(prompt, header, f"prompts[{n}]")
        else:
            messages = messages_of(prompt, f"prompts[{n}]", where)
        made.append(Completion(messages, text.removesuffix(ending), label, f"query[{n}]"))
    return made


def rewards_answer(
    score: Scoring, completions: Sequence[Completion], as_tensor: Callable[[list[float]], Any] = list
) -> dict[str, Any]:
    """What OpenRLHF reads: rewards for the advantage, scores for its dynamic filter, nothing more to log."""
    rewards = np.asarray(score(completions), np.float64).tolist()
    return {"rewards": as_tensor(rewards), "scores": as_tensor(rewards), "extra_logs": {}}
