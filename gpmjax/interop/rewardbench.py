"""Entries for the rewardbench package's table of models.

    import torch
    from rewardbench.models import REWARD_MODEL_CONFIG
    from gpmjax.interop.rewardbench import pair_entry

    REWARD_MODEL_CONFIG["runs/gpm/model"] = pair_entry(as_tensor=torch.tensor, max_length=2048)
    sys.argv = ["run_rm", "--model=runs/gpm/model", "--max_length=2048", "--do_not_save", …]
    scripts.run_rm.main()

The signatures are those of rewardbench 0.1.4, which has two kinds of pipelines:

    pair_entry    scripts/run_rm.py: takes two conversations and returns whether the first is better. Works for every
                  model here; a general preference model needs this one, since it compares pairs.
    scalar_entry  rewardbench, scripts/run_rm.py, scripts/run_v2.py: takes one templated text and returns its reward.
                  For Bradley–Terry models only.

launch/evaluate.py of gpmjax reads the same benchmarks and reports more figures.
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
    """An entry of REWARD_MODEL_CONFIG for a model that compares pairs.

    Args:
      as_tensor: torch.tensor; rewardbench expects a tensor of booleans.
      max_length: tokens of a prompt with one response; give rewardbench the same number.
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
    """An entry of REWARD_MODEL_CONFIG for a model with a reward of single responses; arguments as in `pair_entry`."""
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
    """The object that rewardbench passes between its two builders: a scorer, and the one config field that it reads."""

    def __init__(self, opened: Opened, max_length: int):
        self.opened, self.max_length = opened, max_length
        self.config = SimpleNamespace(pad_token_id=0)


def _build(settings: dict[str, Any], name: str, *, revision: str | None = None, **_: Any) -> Model:
    """rewardbench's model builder. The settings give dtype and placement; torch's arguments are ignored."""
    if revision is not None:
        raise ValueError(f"{name}: revision={revision!r}; gpmjax opens a hub id's main branch, or a directory")
    model = RewardModel(name, **settings)
    return Model(model.opened(), model.max_length)


class PairPipeline:
    """Maps two lists of conversations to booleans, True where the first one is better. Its signature is PairRM's."""

    def __init__(self, task: str, model: Model, tokenizer: Any, as_tensor: Callable[[np.ndarray], Any]):
        self.task, self.model, self.tokenizer, self.as_tensor = task, model, tokenizer, as_tensor

    def __call__(
        self,
        candidates_A: Sequence[Conversation],
        candidates_B: Sequence[Conversation],
        output_logits: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Returns [N] booleans as a tensor, False for ties, or with ``output_logits`` a list of log-odds s(A ≻ B)/τ.

        Raises ValueError, one line that names the pair, for conversations that differ before their last turn.
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
    """Maps texts in the model's chat template to [{"label", "score"}], as a transformers pipeline does."""

    def __init__(self, task: str, model: Model, tokenizer: Any):
        self.task, self.model, self.tokenizer = task, model, tokenizer

    def __call__(self, samples: Sequence[str], **kwargs: Any) -> list[dict[str, Any]]:
        """Returns a reward for each text. Raises ValueError, one line, for a text without an answer, or if the model
        has no reward of a single response."""
        _check_window(self.model, kwargs)
        made, header = [], self.model.opened.header
        assert header is not None  # it is opened as a templated one
        for n, text in enumerate(samples):
            prompt, completion = split_at_header(text, header, f"text {n}")
            made.append(Completion(prompt, completion, where=f"text {n}"))
        return [{"label": "reward", "score": float(number)} for number in self.model.opened.score(made)]


def _check_window(model: Model, kwargs: dict[str, Any]) -> None:
    asked = kwargs.get("max_length", model.max_length)
    if kwargs.get("truncation", True) and asked != model.max_length:
        raise ValueError(f"max_length={asked}: the model was opened with {model.max_length}; say the same to both")
