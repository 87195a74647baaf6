"""What is cut depends on the sequence alone, and no comparison disappears without being counted."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from gpmjax.data.chat import ChatFormat
from gpmjax.data.encode import cut_prompt, encode_groups
from gpmjax.data.groups import Comparison, Group, Message, user

SIZES = st.integers(0, 120)


def encode(groups, tokenizer, max_length, template="chat"):
    return encode_groups(groups, ChatFormat(tokenizer, template), max_length=max_length)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
@given(prompt=SIZES, lengths=st.lists(SIZES, min_size=2, max_size=4), max_length=st.integers(100, 200))
def test_cuts_fit_and_ignore_the_company(tokenizer, prompt, lengths, max_length):
    texts = tuple(chr(97 + n) * length + "!" for n, length in enumerate(lengths))
    (group,), _ = encode([Group(user("p" * prompt), texts)], tokenizer, max_length)
    alone = [encode([Group(user("p" * prompt), (text,))], tokenizer, max_length)[0][0] for text in texts]
    assert all(np.array_equal(group.prompt, other.prompt) and group.prompt_end == other.prompt_end for other in alone)
    for response, other in zip(group.responses, alone, strict=True):
        assert np.array_equal(response, other.responses[0])
        assert len(group.prompt) + len(response) <= max_length
        assert response[-1] == tokenizer.eos_token_id
    assert group.prompt[0] == tokenizer.bos_token_id and group.prompt[1] != tokenizer.bos_token_id


def test_nothing_is_cut_that_fits(tokenizer):
    prompt, _, response = ChatFormat(tokenizer).encode(user("Q"), "x" * 40)
    (group,), report = encode([Group(user("Q"), ("x" * 40,))], tokenizer, max(2 * len(prompt), len(prompt) + len(response)))
    assert group.prompt.tolist() == prompt and group.responses[0].tolist() == response
    assert (report.prompts_cut, report.responses_cut) == (0, 0)


def test_prompt_loses_its_left_first(make_tokenizer):
    tokenizer = make_tokenizer("gemma")
    (group,), report = encode([Group(user("head" + "." * 99 + "tail"), ("yes",))], tokenizer, 160)
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
    too_few = r"^f:4: 4 tokens for the prompt are too few, its template alone takes \d+; raise max_length"
    with pytest.raises(ValueError, match=too_few):
        encode([Group(user("Q" * 20), ("a",), (), {}, "f:4")], tokenizer, 8)
    with pytest.raises(ValueError, match="max_length=1: must be at least 2"):
        encode([fine], tokenizer, 1)
