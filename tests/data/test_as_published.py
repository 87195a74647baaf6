"""Options of published checkpoints: the number of BOS, and the gate after the first message, also with truncation."""

import itertools

import numpy as np
import pytest

from gpmjax.data.chat import ChatFormat
from gpmjax.data.encode import encode_groups
from gpmjax.data.groups import Comparison, Group, Message, user
from gpmjax.data.questions import QUESTIONS, QuestionFormat

TURNS = (Message("user", "Why is it so?"), Message("assistant", "Because it is."), Message("user", "Says who?"))


@pytest.mark.parametrize("template", ["chat", "raw"])
@pytest.mark.parametrize("kind", ["gemma", "llama3", "dated"])
def test_sequences_begin_with_as_many_bos_as_declared(make_tokenizer, kind, template):
    tokenizer = make_tokenizer(kind)
    bos = tokenizer.bos_token_id
    written, gate, response = ChatFormat(tokenizer, template).encode(user("Hi"), "Hello")
    assert written[0] == bos != written[1]
    for count in (0, 1, 2):
        prompt, end, same = ChatFormat(tokenizer, template, bos_tokens=count).encode(user("Hi"), "Hello")
        assert (prompt, same) == ([bos] * count + written[1:], response)
        assert prompt[: end + 1] == [bos] * count + written[1 : gate + 1]


def test_two_bos_are_those_of_template_and_tokenizer(make_tokenizer):
    # In the published recipe the template writes BOS and the tokenizer adds another.
    tokenizer = make_tokenizer("gemma")
    text = tokenizer.apply_chat_template([TURNS[0].as_dict()], tokenize=False, add_generation_prompt=True)
    assert ChatFormat(tokenizer, bos_tokens=2).encode(TURNS[:1], "a")[0] == tokenizer(text)["input_ids"]


def test_questions_have_the_declared_number_of_bos(make_tokenizer):
    tokenizer = make_tokenizer("gemma")
    for name in ("yes_or_no", "candidates"):
        asked = [
            QuestionFormat(ChatFormat(tokenizer, bos_tokens=count), QUESTIONS[name]).ask(
                Group(user("Hi"), ("a", "b")), 512
            )
            for count in (-1, 2)
        ]
        assert [tokenizer.bos_token_id, *asked[0].prompt] == asked[1].prompt


@pytest.mark.parametrize("kind", ["gemma", "llama3", "chatml"])
def test_the_gate_after_the_first_message(make_tokenizer, kind):
    tokenizer = make_tokenizer(kind)
    chat = ChatFormat(tokenizer, gate_at="first_message")
    first = chat.write(TURNS[:1], header=False)
    prompt, gate, response = chat.encode(TURNS, "Me.")
    whole, after_all, same = ChatFormat(tokenizer).encode(TURNS, "Me.")
    assert (prompt, response) == (whole, same) and gate < after_all
    assert tokenizer.decode(prompt[: gate + 1]) == first
    assert chat.encode(TURNS[:1], "Me.") == ChatFormat(tokenizer).encode(TURNS[:1], "Me.")


def test_the_gate_after_the_first_message_of_a_transcript(make_tokenizer):
    tokenizer = make_tokenizer("dated")
    prompt, gate, _ = ChatFormat(tokenizer, "raw", gate_at="first_message", bos_tokens=2).encode(TURNS, "Me.")
    assert tokenizer.decode(prompt[: gate + 1]) == "<s><s>Human: Why is it so?"


@pytest.mark.parametrize("gate_at", ["prompt", "first_message"])
@pytest.mark.parametrize("bos_tokens", [-1, 2])
def test_a_cut_prompt_keeps_bos_and_gate(make_tokenizer, gate_at, bos_tokens):
    tokenizer = make_tokenizer("gemma")
    chat = ChatFormat(tokenizer, gate_at=gate_at, bos_tokens=bos_tokens)
    said = Message("assistant", "said before " * 20)
    group = Group((TURNS[0], said, TURNS[2]), ("short", "long " * 16), (Comparison(0, 1),))
    (whole,), _ = encode_groups([group], chat, max_length=2000)
    (cut,), report = encode_groups([group], chat, max_length=300)
    assert report.prompts_cut == 1 and any(cut.own_prompt)  # each response leaves different room for its prompt
    ends = set()
    for n in range(2):
        prompt, gate, response = cut.sequence(n)
        before, place, uncut = whole.sequence(n)
        assert len(prompt) < len(before) and len(prompt) + len(response) <= 300
        np.testing.assert_array_equal(response, uncut)
        bos = list(itertools.takewhile(lambda token: token == tokenizer.bos_token_id, prompt))
        assert len(bos) == max(bos_tokens, 1)
        if gate_at == "first_message":
            np.testing.assert_array_equal(prompt[: gate + 1], before[: place + 1])
        else:
            np.testing.assert_array_equal(prompt[gate - 20 :], before[place - 20 :])
        ends.add(gate)
    assert (len(ends) == 1) == (gate_at == "first_message")
    for n in range(2):  # each response alone gives the same
        alone = cut.take([n]).sequence(0)
        for ours, theirs in zip(alone, cut.sequence(n), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_window_too_small_for_the_first_message_is_refused(make_tokenizer):
    chat = ChatFormat(make_tokenizer("gemma"), gate_at="first_message")
    group = Group((Message("user", "a" * 400), *TURNS[1:]), ("b" * 300,), where="p:1")
    with pytest.raises(
        ValueError,
        match="p:1: .* tokens are too few for the prompt, its template and its first message, after which the gate",
    ):
        encode_groups([group], chat, max_length=300)


def test_invalid_options_are_refused(make_tokenizer):
    tokenizer = make_tokenizer("gemma")
    with pytest.raises(ValueError, match="gate_at='end': must be one of 'prompt', 'first_message'"):
        ChatFormat(tokenizer, gate_at="end")
    tokenizer.chat_template = (
        "{% for m in messages %}{% if loop.last %}[{% endif %}{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}:{% endif %}"
    )
    with pytest.raises(
        ValueError,
        match="gate_at='first_message': the chat template writes a conversation.s first message differently",
    ):
        ChatFormat(tokenizer, gate_at="first_message").encode(TURNS, "a")
    tokenizer.bos_token = None
    with pytest.raises(ValueError, match="bos_tokens=2: must be 0 or -1, the tokenizer has no BOS token"):
        ChatFormat(tokenizer, bos_tokens=2)
