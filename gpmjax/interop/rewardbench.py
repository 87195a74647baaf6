"""The rewardbench package: pipelines that stand in its table of models.

    import torch
    from rewardbench.models import REWARD_MODEL_CONFIG
    from gpmjax.interop.rewardbench import pair_entry

    REWARD_MODEL_CONFIG["runs/gpm/model"] = pair_entry(as_tensor=torch.tensor, max_length=2048)
    sys.argv = ["run_rm", "--model=runs/gpm/model", "--max_length=2048", "--do_not_save", …]
    scripts.run_rm.main()

As in rewardbench 0.1.4. It has two kinds of pipelines, and which one a model can be is a matter of what it says:

    pair_entry    scripts/run_rm.py: two conversations at a time, answered by whether the first is better. What a general preference
                  model needs, since it is right about pairs; works for every model here.
    scalar_entry  rewardbench, scripts/run_rm.py, scripts/run_v2.py: one templated text, answered by its reward. Bradley–Terry only.

(gpmjax's own launch/evaluate.py reads the same benchmarks, and has more to say about them.)
"""

import functools
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from gpmjax.data.messages import read_reply
from gpmjax.interop.reward_model import Opened, RewardModel
from gpmjax.interop.rewards import Completion
from gpmjax.interop.templated import split_at_header
from gpmjax.interop.texts import messages_of

Conversation = Sequence[dict[str, str]]


def pair_entry(as_tensor: Callable[[np.ndarray], Any], max_length: int = 2048, **settings: Any) -> dict[str, Any]:
    """An entry of REWARD_MODEL_CONFIG whose model compares pairs.

    Args:
      as_tensor: torch.tensor; rewardbench wants a tensor of booleans.
      max_length: tokens of a prompt with one response; say the same to rewardbench.
      settings: further fields of `RewardModel`, such as declare, dtype, rows_per_batch.
    """
    build = functools.partial(_build, settings | {"against": "reference", "max_length": max_length})
    return {
        "model_builder": build,
        "pipeline_builder": functools.partial(PairPipeline, as_tensor=as_tensor),
        "quantized": False,
        "custom_dialogue": True,
        "model_type": "Custom Classifier",
    }


def scalar_entry(max_length: int = 2048, **settings: Any) -> dict[str, Any]:
    """An entry of REWARD_MODEL_CONFIG for a model with a reward of a single response; arguments as of `pair_entry`."""
    build = functools.partial(
        _build, settings | {"against": "nothing", "prompts": "templated", "max_length": max_length}
    )
    return {
        "model_builder": build,
        "pipeline_builder": ScalarPipeline,
        "quantized": False,
        "custom_dialogue": False,
        "model_type": "Seq. Classifier",
    }


class Model:
    """What rewardbench holds between its two builders: a scorer, and the one field of a config that it looks at."""

    def __init__(self, opened: Opened, max_length: int):
        self.opened, self.max_length = opened, max_length
        self.config = SimpleNamespace(pad_token_id=0)


def _build(settings: dict[str, Any], name: str, *, revision: str | None = None, **_: Any) -> Model:
    """The model builder; dtype and placement are the settings' business, not torch's."""
    if revision is not None:
        raise ValueError(f"{name}: revision={revision!r}; gpmjax opens a hub id's main branch, or a directory")
    model = RewardModel(name, **settings)
    return Model(model.opened(), model.max_length)


class PairPipeline:
    """(first conversations, second conversations) → which first ones are better, as PairRM's pipeline has it; a tie is not better."""

    def __init__(self, task: str, model: Model, tokenizer: Any, as_tensor: Callable[[np.ndarray], Any]):
        self.task, self.model, self.tokenizer, self.as_tensor = task, model, tokenizer, as_tensor

    def __call__(
        self,
        candidates_A: Sequence[Conversation],
        candidates_B: Sequence[Conversation],
        output_logits: bool = False,
        **kwargs: Any,
    ) -> Any:
        """[N] booleans as a tensor, or with ``output_logits`` the list of log-odds s(A ≻ B)/τ.

        Raises ValueError, one line naming the pair, for conversations that differ before their last turn.
        """
        _check_window(self.model, kwargs)
        made = []
        for n, (first, second) in enumerate(zip(candidates_A, candidates_B, strict=True)):
            where = f"pair {n}"
            if list(first[:-1]) != list(second[:-1]):
                raise ValueError(
                    f"{where}: the two conversations differ before their last turn, so they do not answer one prompt"
                )
            prompt = messages_of(list(first[:-1]), "prompt", where)
            made.append(
                Completion(prompt, read_reply([first[-1]], "A", where), read_reply([second[-1]], "B", where), where)
            )
        log_odds = self.model.opened.score(made)
        return log_odds.tolist() if output_logits else self.as_tensor(log_odds > 0)


class ScalarPipeline:
    """Texts as the model's chat template writes them → [{"label", "score"}], as transformers' pipeline has it."""

    def __init__(self, task: str, model: Model, tokenizer: Any):
        self.task, self.model, self.tokenizer = task, model, tokenizer

    def __call__(self, samples: Sequence[str], **kwargs: Any) -> list[dict[str, Any]]:
        """A reward for each text. Raises ValueError, one line, for one without an answer, or a model without rewards."""
        _check_window(self.model, kwargs)
        made = []
        for n, text in enumerate(samples):
            prompt, completion = split_at_header(text, self.model.opened.header, f"text {n}")
            made.append(Completion(prompt, completion, where=f"text {n}"))
        return [{"label": "reward", "score": float(number)} for number in self.model.opened.score(made)]


def _check_window(model: Model, kwargs: dict[str, Any]) -> None:
    asked = kwargs.get("max_length", model.max_length)
    if kwargs.get("truncation", True) and asked != model.max_length:
        raise ValueError(f"max_length={asked}: the model was opened with {model.max_length}; say the same to both")
