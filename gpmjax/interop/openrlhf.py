"""OpenRLHF's ``reward_func(queries, prompts, labels)`` as a file, and the messages of its HTTP reward servers.

The signatures are those of OpenRLHF 0.11.2 (openrlhf/utils/agent.py, openrlhf/cli/serve_rm.py). A query is the prompt
followed by the policy's answer, decoded with special tokens. **OpenRLHF sends one completion per call**, from many
threads or requests at a time. For rewards within a group, run a server, which holds completions back until the 8 of a
prompt have
arrived:

    python launch/serve_reward.py --model=runs/gpm/model --against=group --group_size=8
    … --reward.remote_url http://localhost:5000/get_reward --rollout.n_samples_per_prompt 8

For rewards that need no group, use this file itself:

    GPMJAX_MODEL=runs/gpm/model GPMJAX_AGAINST=reference … --reward.remote_url PATH/TO/gpmjax/interop/openrlhf.py

It returns lists, as OpenRLHF's own server does. For tensors, as in OpenRLHF's examples, write your own file:

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
    """OpenRLHF's ``reward_func`` for a model."""

    model: RewardModel
    as_tensor: Callable[[list[float]], Any] = list
    """Converts the rewards, for instance to torch.tensor; by default they are a list."""

    def __call__(
        self, queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str], **_: Any
    ) -> dict[str, Any]:
        """Returns {"rewards": [N], "scores": [N], "extra_logs": {}}. Labels are the references, if the reward uses
        one."""
        score, header = self.model.opened()
        completions = read_completions(
            {"query": list(queries), "prompts": list(prompts), "labels": list(labels)}, header, self.model.ending
        )
        return rewards_answer(score, completions, self.as_tensor)


def reward_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str], **_: Any) -> dict[str, Any]:
    """The function that OpenRLHF loads from a file. The environment names the model (gpmjax.interop.reward_model)."""
    return OpenRLHFReward(from_environment())(queries, prompts, labels)


def read_completions(fields: dict[str, Any], header: str | None = None, ending: str = "") -> list[Completion]:
    """Reads the completions of a request.

    Args:
      fields: "query" [N], "prompts" [N] and optionally, as references, "labels" [N]. A prompt may also be a
        conversation of {"role", "content"}; its query is then the answer alone.
      header: the generation header that templated prompts end in; None: a prompt is a user message.
      ending: removed from the end of an answer.

    Raises ValueError, one line that names the field and its index.
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
    """Scores completions and returns OpenRLHF's answer: rewards for advantages, scores for its dynamic filter."""
    rewards = np.asarray(score(completions), np.float64).tolist()
    return {"rewards": as_tensor(rewards), "scores": as_tensor(rewards), "extra_logs": {}}
