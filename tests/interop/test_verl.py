"""verl's reward functions, loaded and called as by verl 0.9.1."""

import asyncio
import importlib
import inspect
import sys
from functools import partial

import numpy as np
import pytest

from gpmjax.interop import reward_model
from gpmjax.interop.gather import Gathered
from gpmjax.interop.reward_model import Opened
from gpmjax.interop.rewards import RewardPlan, Rewards

CHAT = [{"role": "user", "content": "Choose!"}]


def load(path, name, **reward_kwargs):
    """As verl/utils/import_utils.py's load_extern_object and verl/trainer/ppo/reward.py's get_custom_reward_fn."""
    if path.startswith("pkg://"):
        module = importlib.import_module(path.removeprefix("pkg://").replace("/", "."))
    else:
        spec = importlib.util.spec_from_file_location(f"custom_module_{hash(path)}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert spec.name not in sys.modules
    function = getattr(module, name)

    def merge(*args, **kwargs):
        return function(*args, **{**kwargs, **reward_kwargs})

    async def merge_async(*args, **kwargs):
        return await function(*args, **{**kwargs, **reward_kwargs})

    return partial(merge_async if inspect.iscoroutinefunction(function) else merge)


async def run_single(compute_score, row):
    """Calls as verl/experimental/reward_loop/reward_manager/naive.py does."""
    extra_info = row.get("extra_info", {})
    extra_info["num_turns"], extra_info["rollout_reward_scores"] = None, {}
    call = partial(
        compute_score,
        data_source=row["data_source"],
        solution_str=row["solution"],
        ground_truth=row["ground_truth"],
        extra_info=extra_info,
    )
    if inspect.iscoroutinefunction(compute_score):
        result = await call()
    else:
        result = await asyncio.get_running_loop().run_in_executor(None, call)
    assert isinstance(result, float)
    return result


@pytest.fixture
def opened(monkeypatch):
    """A function that makes a scorer the environment's model."""
    monkeypatch.setenv("GPMJAX_MODEL", "a model")
    monkeypatch.setenv("GPMJAX_AGAINST", "reference")
    return lambda score: (
        monkeypatch.setattr(reward_model.RewardModel, "_open", lambda self: Opened(score))
        or monkeypatch.setattr(reward_model, "_OPENED", {})
    )


def row(solution, prompt=CHAT, truth="scissors", key="prompt"):
    return {
        "data_source": "games",
        "solution": solution,
        "ground_truth": truth,
        "extra_info": {"index": 3, key: prompt},
    }


PATHS = ["pkg://gpmjax.interop.verl", inspect.getsourcefile(importlib.import_module("gpmjax.interop.verl"))]


@pytest.mark.parametrize("name", ["compute_score", "compute_score_async"])
@pytest.mark.parametrize("path", PATHS, ids=["package", "file"])
@pytest.mark.parametrize("prompt", ["Choose!", CHAT, np.array(CHAT)], ids=["string", "list", "array"])
def test_one_completion_per_call(judge, opened, path, name, prompt):
    opened(Rewards(judge, RewardPlan("reference", "score")))
    compute_score = load(path, name, prompt_key="question")
    assert asyncio.run(run_single(compute_score, row("paper", prompt, key="question"))) == -2.0
    (group,), _ = judge.calls[0]
    assert group.prompt[0] == ("user", "Choose!")


def test_a_group_whose_completions_arrive_at_the_same_time(judge, opened):
    opened(Gathered(Rewards(judge, RewardPlan("group", "score")), 3, 30.0))
    compute_score = load(PATHS[0], "compute_score_async")
    # More groups than asyncio's own pool has threads: each group waits for completions that are sent last.
    rows = [row(text, f"prompt {n}") for text in ("rock", "scissors", "paper") for n in range(50)]

    async def together():
        return await asyncio.gather(*(run_single(compute_score, row) for row in rows))

    np.testing.assert_allclose(
        np.reshape(asyncio.run(together()), (3, 50)), np.repeat([[-2 / 3], [1 / 3], [1 / 3]], 50, axis=1)
    )


def test_the_batch_manager_passes_groups(judge, opened):
    opened(Rewards(judge, RewardPlan("group", "score")))
    rows = [row(text) for text in ("rock", "scissors", "paper")]
    # verl/workers/reward_manager/batch.py, verify
    scores = load(PATHS[0], "compute_score_batched")(
        data_sources=np.array([r["data_source"] for r in rows], dtype=object),
        solution_strs=[r["solution"] for r in rows],
        ground_truths=[r["ground_truth"] for r in rows],
        extra_infos=np.array([r["extra_info"] for r in rows], dtype=object),
    )
    np.testing.assert_allclose(scores, [-2 / 3, 1 / 3, 1 / 3])
    assert all(type(score) is float for score in scores)


def test_a_saved_model_named_by_the_environment(saved, monkeypatch):
    for name, value in {
        "MODEL": saved["gpm"],
        "AGAINST": "reference",
        "MAX_LENGTH": "64",
        "ROWS_PER_BATCH": "1",
    }.items():
        monkeypatch.setenv(f"GPMJAX_{name}", value)
    monkeypatch.setattr(reward_model, "_OPENED", {})
    compute_score = load(PATHS[0], "compute_score")
    first, second = (
        asyncio.run(run_single(compute_score, row(*texts))) for texts in (("yes", CHAT, "no"), ("no", CHAT, "yes"))
    )
    assert first == pytest.approx(-second, rel=1e-4) and abs(first) > 1e-3
    assert len(reward_model._OPENED) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"extra_info": {"index": 3}},
            "games, completion 0: field 'extra_info': has no 'prompt', there is index; put .*prompt_key",
        ),
        ({"extra_info": None}, "has no 'prompt', there is nothing"),
        ({"extra_info": {"prompt": 3}}, "games, completion 0: field 'extra_info.prompt': must be a string or a list"),
        ({"solution_str": 3}, "games, completion 0: field 'solution_str': must be a string"),
        ({"ground_truth": {"target": 1}}, "games, completion 0: field 'reference': must be a text"),
    ],
)
def test_an_error_is_one_line_that_names_the_field(judge, opened, changes, words):
    opened(Rewards(judge, RewardPlan("reference")))
    fields = {"data_source": "games", "solution_str": "a", "ground_truth": "b", "extra_info": {"prompt": "p"}} | changes
    with pytest.raises(ValueError, match=words) as refusal:
        load(PATHS[0], "compute_score")(**fields)
    assert "\n" not in str(refusal.value)
