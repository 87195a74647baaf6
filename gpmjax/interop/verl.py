"""verl's ``compute_score``, its asynchronous form and its batched form.

    GPMJAX_URL=http://localhost:5000/get_reward … \\
        reward.custom_reward_function.path=pkg://gpmjax.interop.verl
        reward.custom_reward_function.name=compute_score_async

The signatures are those of verl 0.9.1 (verl/experimental/reward_loop/reward_manager/naive.py,
verl/workers/reward_manager/batch.py). verl's reward loop sends **one completion per call**, and distributes a prompt's
completions over worker processes at random. So for rewards within a group all processes must ask one server,
launch/serve_reward.py with --group_size, through `compute_score_async`, which blocks no thread of verl. With
GPMJAX_MODEL instead of GPMJAX_URL each worker loads the model (gpmjax.interop.reward_model).

verl does not pass the prompt to a reward function. Put the prompt into the column extra_info when you prepare the data,
under "prompt"; for another key set reward.custom_reward_function.reward_kwargs.prompt_key. ground_truth is the
reference, for rewards against a reference.
"""

import asyncio
import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gpmjax.data.fields import FieldError
from gpmjax.data.messages import read_reply
from gpmjax.interop.reward_model import from_environment
from gpmjax.interop.rewards import Completion
from gpmjax.interop.texts import messages_of

# Most threads wait for an answer; the pool starts them as they are needed.
WAITING = 1024
_POOL: list[ThreadPoolExecutor] = []


def compute_score(
    data_source: Any,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    prompt_key: str = "prompt",
    reward_router_address: Any = None,
    reward_model_tokenizer: Any = None,
) -> float:
    """The reward of one completion by the environment's model. The last two arguments, for verl's own reward models,
    are not used.

    Raises:
      ValueError: one line that names the missing or malformed field.
      OSError: one line that names the URL of a server that does not answer.
    """
    (number,) = compute_score_batched(
        [data_source], [solution_str], [ground_truth], [extra_info], prompt_key=prompt_key
    )
    return number


async def compute_score_async(
    data_source: Any, solution_str: str, ground_truth: Any, extra_info: Mapping[str, Any] | None = None, **kwargs: Any
) -> float:
    """`compute_score` in a thread, so that many completions can wait for their group at a time."""
    if not _POOL:
        _POOL.append(ThreadPoolExecutor(WAITING, "gpmjax-reward"))
    call = functools.partial(compute_score, data_source, solution_str, ground_truth, extra_info, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_POOL[0], call)


def compute_score_batched(
    data_sources: Sequence[Any],
    solution_strs: Sequence[str],
    ground_truths: Sequence[Any],
    extra_infos: Sequence[Mapping[str, Any] | None],
    *,
    prompt_key: str = "prompt",
) -> list[float]:
    """The rewards of a batch, for verl's "batch" reward manager, which passes whole groups."""
    made = []
    for n, (data_source, solution, truth, extra) in enumerate(
        zip(data_sources, solution_strs, ground_truths, extra_infos, strict=True)
    ):
        where = f"{data_source}, completion {n}"
        known = extra or {}
        if prompt_key not in known:
            there = ", ".join(known) or "nothing"
            problem = f"has no {prompt_key!r}, there is {there}; put the prompt there, or set reward_kwargs.prompt_key"
            raise FieldError(where, "extra_info", problem)
        prompt = messages_of(known[prompt_key], f"extra_info.{prompt_key}", where)
        made.append(Completion(prompt, read_reply(solution, "solution_str", where), truth, where))
    return [float(number) for number in from_environment()(made)]
