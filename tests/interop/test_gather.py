"""Completions that arrive one by one are scored as one group."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from gpmjax.data.groups import user
from gpmjax.interop.gather import Gathered, Incomplete
from gpmjax.interop.rewards import Completion, RewardPlan, Rewards

TEXTS = ("rock", "scissors", "paper")
EXPECTED = {"rock": -2 / 3, "scissors": 1 / 3, "paper": 1 / 3}


def asked(text, prompt="Choose!"):
    return Completion(user(prompt), text, None, text)


@pytest.fixture
def score(judge):
    return Rewards(judge, RewardPlan("group", "score"))


def one_by_one(gathered, completions):
    """Sends each completion from its own thread."""
    with ThreadPoolExecutor(len(completions)) as pool:
        return list(pool.map(lambda completion: gathered([completion]).item(), completions))


def test_each_completion_gets_its_own_reward_in_any_order(score, judge):
    many = [asked(text, f"prompt {n}") for n in range(4) for text in TEXTS]
    order = np.random.default_rng(0).permutation(len(many))
    found = one_by_one(Gathered(score, 3, 30.0), [many[n] for n in order])
    np.testing.assert_allclose(found, [EXPECTED[many[n].text] for n in order])
    assert sorted(len(group.responses) for groups, _ in judge.calls for group in groups) == [3] * 4


def test_a_call_may_hold_several_groups(score, judge):
    gathered = Gathered(score, 3, 30.0)
    found = gathered([asked(text, prompt) for text in (*TEXTS, *TEXTS) for prompt in ("one", "two")])
    np.testing.assert_allclose(found, [EXPECTED[text] for text in (*TEXTS, *TEXTS) for _ in "12"])
    assert len(judge.calls) == 4
    assert gathered([]).shape == (0,)


def test_completions_whose_client_disconnected_are_dropped(score, judge):
    gathered = Gathered(score, 2, 0.05)
    with pytest.raises(Incomplete, match="waited 0.05 s for 2 completions of a prompt, 1 came"):
        gathered([asked("rock")])
    assert gathered._open == {}
    gathered = Gathered(score, 2, 30.0)
    np.testing.assert_allclose(one_by_one(gathered, [asked("scissors"), asked("paper")]), [1.0, -1.0])
    assert [group.responses for group in judge.calls[0][0]] in ([("scissors", "paper")], [("paper", "scissors")])


def test_a_call_that_fails_drops_all_its_completions(score):
    gathered = Gathered(score, 2, 0.05)
    with pytest.raises(Incomplete):
        gathered([asked("rock"), asked("paper", "other")])
    assert gathered._open == {}


def test_a_refused_group_raises_in_every_call_and_the_next_group_does_not():
    def score(completions):
        if any(completion.text == "bad" for completion in completions):
            raise ValueError("bad: refused")
        return np.arange(len(completions))

    gathered, refused = Gathered(score, 2, 30.0), []

    def ask(text):
        try:
            gathered([asked(text)])
        except ValueError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=ask, args=(text,)) for text in ("good", "bad")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == ["bad: refused"] * 2
    assert sorted(one_by_one(gathered, [asked("good"), asked("good")])) == [0.0, 1.0]


def test_closing_ends_waiting_calls(score):
    gathered, entered = Gathered(score, 2, 30.0), threading.Event()
    real = gathered._enter
    gathered._enter = lambda completion: (real(completion), entered.set())[0]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(gathered, [asked("rock")])
        assert entered.wait(10)
        gathered.close()
        with pytest.raises(Incomplete, match="no more groups"):
            waiting.result(10)
    with pytest.raises(Incomplete, match="no more groups"):
        gathered([asked("rock")])


def test_a_group_of_one_is_refused(score):
    with pytest.raises(ValueError, match="group size 1: must be at least 2"):
        Gathered(score, 1, 1.0)
