"""Rewards of completions against each other, against a reference, or of a single response."""

import numpy as np
import pytest
from scipy import special

from gpmjax.config.judge import JudgeConfig
from gpmjax.data.groups import Group, Message, user
from gpmjax.data.messages import read_reply
from gpmjax.interop.rewards import Completion, RewardPlan, Rewards
from gpmjax.interop.texts import messages_of
from gpmjax.judges.open import open_judge

ASK = user("Choose!")


def completions(*texts, prompt=ASK, reference=None):
    return [Completion(prompt, text, reference, f"completion {n}") for n, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        # rock beats scissors by 1, scissors beats paper by 2, paper beats rock by 3; each also meets itself, with 0.
        ("score", [(1 - 3) / 3, (2 - 1) / 3, (3 - 2) / 3]),
        ("log_odds", [(1 - 3) / 3 / 0.5, (2 - 1) / 3 / 0.5, (3 - 2) / 3 / 0.5]),
        ("win_rate", [(0.5 + special.expit(s / 0.5).sum()) / 3 for s in np.array([[1, -3], [2, -1], [3, -2]])]),
    ],
)
def test_completions_of_a_group_are_each_others_opponents(judge, units, expected):
    rewards = Rewards(judge, RewardPlan("group", units))(completions("rock", "scissors", "paper"))
    np.testing.assert_allclose(rewards, expected, rtol=1e-6)
    assert rewards.dtype == np.float64 and judge.calls[0][1] == "all"
    np.testing.assert_allclose(rewards.sum(), 1.5 if units == "win_rate" else 0, atol=1e-6)


@pytest.mark.parametrize(
    ("units", "expected"),
    [("score", [1.0, 0.0, -2.0]), ("log_odds", [2.0, 0.0, -4.0]), ("win_rate", special.expit([2.0, 0.0, -4.0]))],
)
def test_a_reference_is_the_only_opponent(judge, units, expected):
    asked = completions("rock", "scissors", "paper", reference="scissors")
    np.testing.assert_allclose(Rewards(judge, RewardPlan("reference", units))(asked), expected)
    # Only the pairs that are read are asked for, and one completion is enough.
    ((group,), pairs), *_ = judge.calls
    assert pairs == "labelled" and {(c.chosen, c.rejected) for c in group.comparisons} == {(0, 3), (1, 3), (2, 3)}
    assert Rewards(judge, RewardPlan("reference", units))(asked[:1]) == expected[0]


def test_prompts_are_told_apart_in_any_order(judge):
    rewards = Rewards(judge, RewardPlan("group", "score"))
    first, second = completions("rock", "scissors"), completions("paper", "rock", prompt=user("Again!"))
    mixed = rewards([first[0], second[0], second[1], first[1]])
    np.testing.assert_allclose(mixed, [0.5, 1.5, -1.5, -0.5])
    assert [group.responses for group in judge.calls[0][0]] == [("rock", "scissors"), ("paper", "rock")]
    # The same prompt twice in a data set is one prompt, with all of its completions.
    np.testing.assert_allclose(rewards(completions("rock", "scissors", "rock", "scissors")), [0.5, -0.5, 0.5, -0.5])


def test_references_of_one_prompt_may_differ(judge):
    asked = [c._replace(reference=r) for c, r in zip(completions("rock", "rock"), ("scissors", "paper"), strict=True)]
    np.testing.assert_allclose(Rewards(judge, RewardPlan("reference", "score"))(asked), [1.0, -3.0])


@pytest.mark.parametrize(
    ("plan", "asked", "words"),
    [
        (RewardPlan("group"), completions("rock"), "completion 0: the only completion of its prompt .*'reference'"),
        (
            RewardPlan("reference"),
            completions("rock"),
            "completion 0: field 'reference': must be a text .* is NoneType None",
        ),
        (RewardPlan("reference"), completions("rock", reference=["a"]), "must be a text"),
        (RewardPlan("nothing"), completions("rock"), "against='nothing': this model has no reward"),
    ],
)
def test_missing_opponents_are_refused_in_one_line(judge, plan, asked, words):
    with pytest.raises(ValueError, match=words) as refusal:
        Rewards(judge, plan)(asked)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("units", ["score", "log_odds", "win_rate"])
@pytest.mark.parametrize("against", ["group", "reference"])
def test_equal_texts_have_equal_rewards_despite_rounding(judge, against, units):
    noise = np.random.default_rng(0).normal(size=(8, 8)) * 1e-7

    def rounded(groups, pairs):
        return (v._replace(scores=v.scores + noise[: len(v.scores), : len(v.scores)]) for v in judge(groups, pairs))

    asked = completions("rock", "scissors", "rock", "rock", reference="paper")
    found = Rewards(rounded, RewardPlan(against, units))(asked)
    assert found[0] == found[2] == found[3] != found[1]
    alike = Rewards(rounded, RewardPlan(against, units))(completions(*["rock"] * 4, reference="paper"))
    assert np.ptp(alike) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_score_that_is_not_finite_is_refused(judge, bad):
    def spoilt(groups, pairs):
        return (v._replace(scores=np.where(v.scores == 1.0, bad, v.scores)) for v in judge(groups, pairs))

    with pytest.raises(ValueError, match="completion 0: a score of the model is not finite"):
        Rewards(spoilt, RewardPlan("group"))(completions("rock", "scissors"))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"against": "others"}, "against is 'others'; allowed: 'group', 'reference', 'nothing'"),
        ({"against": "group", "units": "logits"}, "units is 'logits'; allowed: 'log_odds', 'score', 'win_rate'"),
        ({"against": "nothing", "units": "win_rate"}, "a win needs an opponent"),
    ],
)
def test_bad_plans_are_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        RewardPlan(**fields)


def test_prompts_and_completions_are_read_alike():
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "p", "id": "ignored", "name": None}]
    assert messages_of(chat, "prompt", "w") == (Message("system", "s"), Message("user", "p"))
    assert messages_of(np.array(chat), "prompt", "w") == messages_of(tuple(chat), "prompt", "w")
    named = messages_of([{"role": "user", "content": "p", "name": "Ann"}], "prompt", "w")
    assert named[0].content.fields == {"content": "p", "name": "Ann"}  # the template writes or refuses them
    assert messages_of("p", "prompt", "w") == messages_of([{"role": "user", "content": "p"}], "prompt", "w")
    assert read_reply("c", "completion", "w") == read_reply([{"role": "assistant", "content": "c"}], "completion", "w")


@pytest.mark.parametrize(
    ("read", "value", "words"),
    [
        (
            messages_of,
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
            "ends with an assistant's turn",
        ),
        (
            messages_of,
            [{"role": "user", "content": [{"type": "image"}]}],
            r"w: field 'x\[0\].content\[0\]': .* 'image' is not supported",
        ),
        (messages_of, 3, "w: field 'x': must be a string or a list of messages, is int 3"),
        (messages_of, None, "w: field 'x': missing"),
        (
            read_reply,
            [{"role": "assistant", "content": "a"}, {"role": "tool", "content": "b"}],
            "one assistant message, is .*tool",
        ),
        (read_reply, [], "must be a string or a list of messages"),
    ],
)
def test_an_error_names_the_malformed_prompt_or_completion(read, value, words):
    with pytest.raises(ValueError, match=words):
        read(value, "x", "w")


@pytest.fixture(scope="module", params=["gpm", "bt"])
def real(request, saved):
    return request.param, open_judge(JudgeConfig(saved[request.param], max_length=64, rows=1))


TEXTS = ("yes", "no", "perhaps so", "yes and no, or neither of the two")


@pytest.mark.parametrize("against", ["group", "reference"])
def test_rewards_of_a_real_model_do_not_depend_on_order_or_other_prompts(real, against):
    _, judge = real
    rewards = Rewards(judge, RewardPlan(against))
    asked = [
        Completion(prompt, text, "maybe", str(n))
        for n, (prompt, text) in enumerate((p, t) for p in (user("Is it?"), user("Was it?")) for t in TEXTS)
    ]
    straight = rewards(asked)
    order = np.random.default_rng(0).permutation(len(asked))
    np.testing.assert_allclose(rewards([asked[n] for n in order]), straight[order], rtol=1e-4, atol=1e-5)
    assert np.abs(straight).min() > 1e-3
    # The other prompt's completions have no influence.
    np.testing.assert_allclose(rewards(asked[:4]), straight[:4], rtol=1e-4, atol=1e-5)


def test_rewards_equal_means_of_the_judges_matrix(real):
    kind, judge = real
    group = Group(user("Is it?"), (*TEXTS, "maybe"))
    (verdict,) = judge([group], "all")
    among = verdict.scores[:4, :4]

    def read(plan):
        return Rewards(judge, plan)(completions(*TEXTS, prompt=group.prompt, reference="maybe"))

    def close(plan, expected):
        np.testing.assert_allclose(read(plan), expected, rtol=1e-4, atol=1e-5)

    close(RewardPlan("group", "score"), among.mean(axis=1))
    close(RewardPlan("group", "win_rate"), special.expit(among / verdict.tau).mean(axis=1))
    close(RewardPlan("reference"), verdict.scores[:4, 4] / verdict.tau)
    if kind == "bt":
        rewards = read(RewardPlan("nothing"))
        np.testing.assert_allclose(rewards - rewards.mean(), among.mean(axis=1), rtol=1e-4, atol=1e-5)
        close(RewardPlan("nothing"), verdict.embedding[:4, 0])
