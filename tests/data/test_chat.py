"""Boundaries of prompt and response, against what the tokenizer's own chat template makes of the whole."""

import dataclasses
import datetime

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from gpmjax.data.chat import DATE, ChatFormat
from gpmjax.data.groups import Message, user

PROMPT = (Message("user", "Hi there"),)


def hf_ids(tokenizer, messages, **options):
    """The published code's ids: the template as transformers applies it, told the pinned date."""
    return tokenizer.apply_chat_template(
        [m._asdict() for m in messages], date_string=DATE.strftime("%d %b %Y"), return_dict=False, **options
    )


@pytest.mark.parametrize("kind", ["chatml", "gemma", "llama3"])
def test_matches_the_chat_template(make_tokenizer, kind):
    tokenizer = make_tokenizer(kind)
    prompt, end, response = ChatFormat(tokenizer).encode(PROMPT, "Hello")
    assert prompt == hf_ids(tokenizer, PROMPT, add_generation_prompt=True)
    assert prompt[: end + 1] == hf_ids(tokenizer, PROMPT)
    whole = hf_ids(tokenizer, (*PROMPT, Message("assistant", "Hello")))
    whole = whole[: -1 if tokenizer.decode(whole[-1:]).isspace() else None]
    if whole[-1] != tokenizer.eos_token_id:
        whole.append(tokenizer.eos_token_id)
    assert prompt + response == whole


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet="ab \n", max_size=8), response=st.text(alphabet="ab \n", max_size=8))
def test_response_ends_in_eos_once_and_prompt_ignores_it(tokenizer, text, response):
    for template in ("chat", "raw"):
        chat = ChatFormat(tokenizer, template)
        prompt, end, ids = chat.encode(user("Q" + text), response)
        assert (prompt, end) == chat.encode(user("Q" + text), "other")[:2]
        assert ids[-1] == tokenizer.eos_token_id and ids.count(tokenizer.eos_token_id) == 1
        assert 0 <= end < len(prompt)
        assert response.strip() in tokenizer.decode(ids)


def test_no_double_bos(tokenizer):
    for template in ("chat", "raw"):
        prompt, _, response = ChatFormat(tokenizer, template).encode(PROMPT, "Hello")
        assert prompt[0] == tokenizer.bos_token_id
        assert (prompt + response)[1:3].count(tokenizer.bos_token_id) == 0


def test_merge_across_the_boundary_keeps_the_prompt(make_tokenizer):
    tokenizer = make_tokenizer("chatml")  # its header ends in a newline, and two newlines are one token
    prompt, _, response = ChatFormat(tokenizer).encode(PROMPT, "\nHello")
    assert tokenizer.decode(prompt).endswith("assistant\n")
    assert tokenizer.decode(response) == "\nHello<|im_end|>"


def test_gate_is_read_before_the_generation_header(make_tokenizer):
    tokenizer = make_tokenizer("gemma")
    prompt, end, _ = ChatFormat(tokenizer).encode(PROMPT, "Hello")
    assert tokenizer.decode(prompt[: end + 1]).endswith("<end_of_turn>\n")
    assert tokenizer.decode(prompt[end + 1 :]) == "<start_of_turn>model\n"


def test_header_that_opens_thinking_is_kept(make_tokenizer):
    tokenizer = make_tokenizer("chatml")
    tokenizer.chat_template = tokenizer.chat_template.replace("assistant\n{% endif", "assistant\n<think>\n{% endif")
    prompt, _, response = ChatFormat(tokenizer).encode(PROMPT, "Hello")
    assert tokenizer.decode(prompt).endswith("<think>\n") and tokenizer.decode(response) == "Hello<|im_end|>"


def test_batched_equals_one_by_one(tokenizer):
    chat = ChatFormat(tokenizer)
    items = [(user(f"Question {n}"), ("yes", "no\n", "")[: n % 3 + 1]) for n in range(5)]
    for (prompt, responses), tokens in zip(items, chat.encode_all(items), strict=True):
        for response, ids in zip(responses, tokens.responses, strict=True):
            assert chat.encode(prompt, response) == (tokens.prompt, tokens.prompt_end, ids)


@pytest.mark.parametrize("kind, expected", [("llama3", "26 Jul 2024"), ("dated", "2024-07-26")])
def test_date_is_pinned(make_tokenizer, kind, expected):
    tokenizer = make_tokenizer(kind)
    chat = ChatFormat(tokenizer)
    assert chat.writes_date and expected in tokenizer.decode(chat.encode(PROMPT, "Hello")[0])
    later = dataclasses.replace(chat, date=datetime.date(2030, 1, 2))
    assert "2030" in tokenizer.decode(later.encode(PROMPT, "Hello")[0])
    assert not ChatFormat(make_tokenizer("gemma")).writes_date and not ChatFormat(tokenizer, "raw").writes_date


def test_ends_turn(make_tokenizer):
    assert ChatFormat(make_tokenizer("chatml")).ends_turn
    assert not ChatFormat(make_tokenizer("gemma")).ends_turn


def test_refusals(make_tokenizer):
    tokenizer = make_tokenizer("gemma")
    with pytest.raises(ValueError, match="template='xml'.*'chat', 'raw'"):
        ChatFormat(tokenizer, "xml")
    with pytest.raises(ValueError, match="refuses messages of system, user .System role not supported"):
        ChatFormat(tokenizer).encode((Message("system", "s"), *PROMPT), "x")
    with pytest.raises(ValueError, match="prompts of one message, not 2"):
        ChatFormat(tokenizer, "raw").encode((Message("system", "s"), *PROMPT), "x")
    tokenizer.chat_template = "{% set f = '%Y' %}{{ strftime_now(f) }}"
    with pytest.raises(ValueError, match="cannot be pinned"):
        ChatFormat(tokenizer)
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="no chat template; use 'raw'"):
        ChatFormat(tokenizer)
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="no EOS token"):
        ChatFormat(tokenizer, "raw")
