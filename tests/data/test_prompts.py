"""Prompts are read from any source, each once; a prompt that a policy cannot answer is refused."""

import json

import pytest

from gpmjax.data.chat import ChatFormat
from gpmjax.data.groups import Message, user
from gpmjax.data.prompts import encode_prompts, part_of, read_prompts


def write(tmp_path, *entries):
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return str(path)


def test_every_layout_and_no_repetition(tmp_path):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    source = write(
        tmp_path,
        {"prompt": "one"},
        {"instruction": "two"},
        {"messages": turns},
        {"prompt": "three", "chosen": "yes", "rejected": "no"},
        {"prompt": "one", "subset": "again"},
    )
    found = read_prompts(source)
    assert [prompt.messages for prompt in found] == [
        user("one"), user("two"), tuple(Message(**turn) for turn in turns), user("three"),
    ]  # fmt: skip
    assert [prompt.where for prompt in found] == [f"{source}:{line}" for line in (1, 2, 3, 4)]
    assert read_prompts(source, limit=2) == found[:2]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"prompt": "  "}, "p.jsonl:1: field 'prompt': is empty"),
        ({"messages": [{"role": "user", "content": ""}]}, "field 'messages': is empty"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "'messages': ends with an assistant's turn"),
        ({"text": "a"}, "field 'prompt': missing; there is text"),
    ],
)
def test_prompts_that_cannot_be_answered_are_named(tmp_path, entry, message):
    with pytest.raises(ValueError, match=message) as refused:
        read_prompts(write(tmp_path, entry))
    assert "\n" not in str(refused.value)


def test_long_prompts_are_refused_or_dropped_by_name(tmp_path, tokenizer_directory):
    from transformers import AutoTokenizer

    chat = ChatFormat(AutoTokenizer.from_pretrained(tokenizer_directory))
    prompts = read_prompts(write(tmp_path, {"prompt": "a"}, {"prompt": "b" * 50}, {"prompt": "c"}))
    with pytest.raises(ValueError, match=r"p.jsonl:2: the prompt takes \d+ tokens, max_length is 40"):
        encode_prompts(prompts, chat, max_length=40)
    kept = encode_prompts(prompts, chat, max_length=40, too_long="drop")
    assert [prompt.number for prompt in kept] == [0, 2]
    assert kept[0].tokens.tolist() == chat.encode(user("a"), "x")[0]
    with pytest.raises(ValueError, match="no prompt fits into max_length=2"):
        encode_prompts(prompts, chat, max_length=2, too_long="drop")


def test_parts_divide_the_prompts():
    parts = [part_of(range(10), iteration, 3) for iteration in (1, 2, 3)]
    assert (
        sorted(prompt for part in parts for prompt in part) == list(range(10)) and part_of(range(10), 4, 3) == parts[0]
    )
