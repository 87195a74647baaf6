"""A chat model as a judge: both orders, weighed or certain verdicts, and no guess of unclear ones."""

import numpy as np
import pytest
from scipy.special import expit

from gpmjax.data.groups import Comparison, Group, Message, user
from gpmjax.evals.policies.win_rate import preference
from gpmjax.judges.chat import ChatJudge
from gpmjax.judges.chat_endpoint import ChatReply, SaidToken
from gpmjax.judges.chat_prompts import CERTAIN, PAIR_PROMPTS

LETTER, REASONS = PAIR_PROMPTS["letter"], PAIR_PROMPTS["reasons"]


def reply(text, *tokens):
    return ChatReply(
        text, tuple(SaidToken(token, {t: np.log(p) for t, p in tops.items()}) for token, tops in tokens), 0, 0
    )


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("A", CERTAIN), (" B\n", -CERTAIN), ("**A**", CERTAIN), ('"B"', -CERTAIN), ("A.", CERTAIN),
        ("B\nBecause", -CERTAIN), ("(A)", CERTAIN), ("", None), ("C", None), ("Both", None), ("A better one", None),
        ("Answer: A", None), ("a", None), ("A's", None),
    ],
)  # fmt: skip
def test_a_letter_is_read_only_if_it_is_clear(text, score):
    read = LETTER.read(reply(text))
    assert np.isnan(read) if score is None else read == score


@pytest.mark.parametrize(
    ("text", "score"),
    [("A is short.\n[[B]]", -CERTAIN), ("[[A]]? No: [[C]]", 0.0), ("[[A]]", CERTAIN), ("A", None), ("[A]", None)],
)
def test_a_mark_is_read_only_if_it_is_clear(text, score):
    read = REASONS.read(reply(text))
    assert np.isnan(read) if score is None else read == score


def test_a_letter_is_weighed_by_the_probabilities_at_its_token():
    tops = {"A": 0.5, " A": 0.1, "B": 0.2, "Both": 0.1}
    assert LETTER.read(reply("A", ("A", tops))) == pytest.approx(np.log(0.6 / 0.2))
    # Probabilities at other tokens have no influence.
    assert LETTER.read(reply("**B", ("**", {"**": 0.6, "A": 0.4}), ("B", {"A": 0.1, "B": 0.9}))) == pytest.approx(
        np.log(1 / 9)
    )
    assert LETTER.read(reply("A", ("A", {"A": 0.9}))) == CERTAIN
    assert np.isnan(LETTER.read(reply("Neither", ("Neither", tops))))


def test_texts_are_copied_into_the_prompt_unchanged():
    text = LETTER.write(
        (*user("Q {first}?"), Message("assistant", "a"), Message("user", "more")), "{second} \\1", "two"
    )
    assert "User: Q {first}?\n\nAssistant: a\n\nUser: more\n" in text and "<response of A>\n{second} \\1\n" in text
    assert LETTER.identity != REASONS.identity


@pytest.fixture
def judge(open_endpoint):
    return ChatJudge(open_endpoint(), LETTER, top_logprobs=5)


def test_a_judge_that_always_prefers_the_first_is_even(http_server, completion, replying, judge):
    http_server.script = [replying(lambda prompt: completion("A", {"A": 0.9, "B": 0.1}))]
    (verdict,) = judge([Group(user("q"), ("one", "two"))], "all")
    assert verdict.scores[0, 1] == verdict.scores[1, 0] == pytest.approx(np.log(9))
    assert preference(verdict.scores, verdict.tau) == 0.5
    assert verdict.forward_tokens == 2 * 101 and verdict.tokens.tolist() == [0, 0]


def test_a_bias_towards_the_first_cancels(http_server, completion, replying, sides, judge):
    def biased(prompt):
        first, second = map(len, sides(prompt))
        p = expit(first - second + 1.5)
        return completion("A", {"A": p, "B": 1 - p})

    http_server.script = [replying(biased)]
    groups = [Group(user("q"), ("looong", "short")), Group(user("q"), ("two", "four"))]
    better, worse = (preference(verdict.scores, verdict.tau) for verdict in judge(groups, "all"))
    assert better == pytest.approx((expit(1 + 1.5) + 1 - expit(-1 + 1.5)) / 2)
    assert worse + better == pytest.approx(1) and better > 0.5


def test_equal_responses_are_asked_once_and_are_even(http_server, completion, replying, judge):
    http_server.script = [replying(lambda prompt: completion("A", {"A": 0.7, "B": 0.3}))]
    (verdict,) = judge([Group(user("q"), ("same", "same"))], "all")
    assert preference(verdict.scores, verdict.tau) == 0.5 and len(http_server.requests) == 1


def test_only_labelled_pairs_are_asked_in_both_orders(http_server, completion, replying, judge):
    http_server.script = [replying(lambda prompt: completion("B"))]
    group = Group(user("q"), ("one", "two", "three"), (Comparison(2, 0), Comparison(0, 2)))
    (verdict,) = judge([group])
    assert len(http_server.requests) == 2
    assert np.argwhere(np.isnan(verdict.scores)).tolist() == [[0, 1], [1, 0], [1, 2], [2, 1]]
    assert verdict.scores[2, 0] == verdict.scores[0, 2] == -CERTAIN


def test_more_groups_than_a_chunk_keep_their_order(http_server, completion, replying, sides, judge):
    http_server.script = [replying(lambda prompt: completion("A" if "good" in sides(prompt)[0] else "B"))]
    groups = [
        Group(user(f"q{n}"), (f"good {n}", f"bad {n}") if n % 3 else (f"bad {n}", f"good {n}")) for n in range(70)
    ]
    shares = [preference(verdict.scores, verdict.tau) for verdict in judge(groups, "all")]
    assert shares == pytest.approx([float(n % 3 > 0) for n in range(70)])
    assert len(http_server.requests) == 140


def test_the_identity_holds_every_setting(judge, open_endpoint):
    others = [ChatJudge(open_endpoint(), REASONS, 5), ChatJudge(open_endpoint(), LETTER, 0)]
    assert all(other.identity != judge.identity for other in others)
    assert judge.identity["model"] == "judge" and judge.identity["prompt"] == "letter"
