"""Truncation depends on the sequence alone, and every dropped comparison is counted."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from gpmjax.data.chat import ChatFormat
from gpmjax.data.encode import EncodeReport, encode_each, encode_groups
from gpmjax.data.groups import Comparison, Group, Message, user
from gpmjax.data.window import cut_prompt


def encode(groups, tokenizer, max_length, template="chat"):
    return encode_groups(groups, ChatFormat(tokenizer, template), max_length=max_length)


def whole_and_cut(tokenizer, prompt, text, max_length):
    """(the uncut tokens of one sequence, the encoding of a group with this response alone)."""
    whole = ChatFormat(tokenizer).encode(user(prompt), text)
    (group,), _ = encode([Group(user(prompt), (text,))], tokenizer, max_length)
    return whole, group.sequence(0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    prompt=st.integers(0, 200),
    lengths=st.lists(st.integers(0, 160), min_size=2, max_size=5),
    max_length=st.integers(120, 220),
)
def test_a_sequence_depends_on_its_own_prompt_and_response_alone(tokenizer, prompt, lengths, max_length):
    texts = tuple(chr(97 + n) * (1 + length) for n, length in enumerate(lengths))
    labels = tuple(Comparison(i, j) for i in range(len(texts)) for j in range(i))
    ((group, report),) = encode_each(
        [Group(user("p" * prompt), texts, labels)], ChatFormat(tokenizer), max_length=max_length
    )
    assert len(group.comparisons) == len(labels)  # no comparison needs a common prompt
    lost = 0
    for n, text in enumerate(texts):
        (prompt_ids, end, response_ids), alone = whole_and_cut(tokenizer, "p" * prompt, text, max_length)
        cut_ids, cut_end, cut_response_ids = group.sequence(n)
        assert [x.tolist() for x in group.sequence(n)[::2]] == [x.tolist() for x in alone[::2]] and cut_end == alone[1]
        # Only the excess is cut (and BOS, if a cut directly before a turn leaves another BOS).
        excess = max(0, len(prompt_ids) + len(response_ids) - max_length)
        gone = len(prompt_ids) + len(response_ids) - len(cut_ids) - len(cut_response_ids)
        assert excess <= gone <= excess + bool(excess)
        # The response is cut last, to the room that the prompt, or half of the window, leaves.
        assert len(cut_response_ids) >= min(
            len(response_ids), max_length // 2, max_length - min(len(prompt_ids), max_length // 2)
        )
        assert len(cut_response_ids) == len(response_ids) or len(cut_ids) <= max_length - max_length // 2
        assert cut_response_ids[-1] == tokenizer.eos_token_id
        assert cut_ids[0] == tokenizer.bos_token_id and cut_ids[1] != tokenizer.bos_token_id
        assert len(cut_ids) - cut_end == len(prompt_ids) - end
        assert group.read[n] == (
            len(cut_response_ids),
            len(response_ids) - len(cut_response_ids),
            len(prompt_ids) - len(cut_ids),
        )
        lost += gone
    assert (report.tokens_cut, report.responses, report.groups_cut) == (lost, len(texts), int(lost > 0))


def test_a_long_prompt_keeps_the_room_that_a_short_answer_leaves(make_tokenizer):
    """A prompt of more than half of the window is not cut if prompt and response fit together."""
    tokenizer = make_tokenizer("gemma")
    (prompt, _, long), (_, _, short) = (
        ChatFormat(tokenizer).encode(user("p" * 90), text) for text in ("r" * 40, "yes")
    )
    window = len(prompt) + len(short) + 10
    assert len(prompt) > window - window // 2 and len(prompt) + len(long) > window
    (group,), report = encode([Group(user("p" * 90), ("yes", "r" * 40, "no"), (Comparison(0, 1),))], tokenizer, window)
    assert [len(group.sequence(n)[0]) for n in range(3)] == [len(prompt), window - len(long), len(prompt)]
    assert group.prompt.tolist() == prompt and group.own_prompt == (
        0,
        window - len(long),
        0,
    )  # the common prompt is laid out once
    excess = len(prompt) + len(long) - window
    assert report == EncodeReport(1, 1, prompts_cut=1, groups_cut=1, responses=3, sequences_cut=1, tokens_cut=excess)
    assert (report + report).cut_line(99) == (
        f"2 of 2 groups do not fit max_length=99: 2 of 6 sequences lost {2 * excess} tokens, "
        "2 groups lost the beginning of their prompt, 0 responses lost their end"
    )
    assert EncodeReport(1, 1).cut_line(99) == ""


def test_a_part_of_a_group_keeps_its_sequences(make_tokenizer):
    tokenizer = make_tokenizer("gemma")
    texts = ("yes", "r" * 60, "s" * 60, "t" * 55)
    (group,), _ = encode([Group(user("p" * 90), texts)], tokenizer, 120)
    assert len(set(group.own_prompt)) > 1
    for members in ([0, 1], [1, 2, 3], [3], [2, 0], []):
        part = group.take(members)
        assert part.size[0] == group.slots(members) == len(part.prompt) + sum(map(len, part.responses))
        for n, member in enumerate(members):
            assert [np.array(x).tolist() for x in part.sequence(n)] == [
                np.array(x).tolist() for x in group.sequence(member)
            ]
        assert not part.responses or not all(
            map(part.own, range(len(members)))
        )  # every prompt that is laid out is used


def test_a_sequence_that_fits_is_not_cut(tokenizer):
    prompt, _, response = ChatFormat(tokenizer).encode(user("Q"), "x" * 40)
    (group,), report = encode([Group(user("Q"), ("x" * 40,))], tokenizer, len(prompt) + len(response))
    assert group.prompt.tolist() == prompt and group.responses[0].tolist() == response
    assert (report.prompts_cut, report.responses_cut) == (0, 0)


def test_the_prompt_is_cut_first_from_the_left(make_tokenizer):
    tokenizer = make_tokenizer("gemma")
    (group,), report = encode([Group(user("head" + "." * 99 + "tail"), ("yes",))], tokenizer, 100)
    text = tokenizer.decode(group.prompt)
    assert text.startswith("<bos>..") and text.endswith("tail<end_of_turn>\n<start_of_turn>model\n")
    assert tokenizer.decode(group.prompt[: group.prompt_end + 1]).endswith("<end_of_turn>\n")
    assert tokenizer.decode(group.responses[0]) == "yes<end_of_turn><eos>" and report.prompts_cut == 1


def test_bos_that_opens_turns_is_not_doubled():
    assert cut_prompt([1, 9, 9, 1, 7, 8], prompt_end=4, bos=1, limit=4) == ([1, 7, 8], 1)
    assert cut_prompt([1, 9, 9, 1, 7, 8], prompt_end=4, bos=1, limit=5) == ([1, 9, 1, 7, 8], 3)


def test_equal_sides_are_dropped_and_counted(make_tokenizer):
    tokenizer = make_tokenizer("gemma")
    long = "x" * 300
    groups = [
        Group(user("Q"), (long + "a", long + "b", "c"), (Comparison(0, 1), Comparison(2, 0))),
        Group(user("Q"), ("same", "same"), (Comparison(0, 1),)),
        Group(user("Q"), ("trim ", "trim"), (Comparison(0, 1),)),
    ]
    kept, report = encode(groups, tokenizer, 200)
    assert [[(c.chosen, c.rejected) for c in group.comparisons] for group in kept] == [[(2, 0)]]
    assert (report.collapsed, report.identical, report.comparisons) == (2, 1, 1)
    assert (report.groups, report.groups_dropped, report.responses_cut) == (3, 2, 2)


def test_groups_without_comparisons_are_kept(make_tokenizer):
    kept, report = encode([Group(user("Q"), ("a", "b"))], make_tokenizer("chatml"), 200)
    assert len(kept) == 1 and report.groups_dropped == 0


def test_errors_name_the_group(make_tokenizer):
    tokenizer = make_tokenizer("gemma")
    fine = Group(user("Q"), ("a", "b"), (Comparison(0, 1),), {}, "f:1")
    with pytest.raises(ValueError, match=r"^f:2: the chat template refuses messages of system"):
        encode([fine, Group((Message("system", "s"),), ("a",), (), {}, "f:2")], tokenizer, 99)
    with pytest.raises(ValueError, match=r"^f:3: a prompt needs at least one message"):
        encode([fine, Group((), ("a",), (), {}, "f:3")], tokenizer, 99)
    too_few = r"^f:4: 5 tokens are too few for the prompt, its template alone takes \d+; raise max_length"
    with pytest.raises(ValueError, match=too_few):
        encode([Group(user("Q" * 20), ("a",), (), {}, "f:4")], tokenizer, 8)
    with pytest.raises(ValueError, match="max_length=1: must be at least 2"):
        encode([fine], tokenizer, 1)
