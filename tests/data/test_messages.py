"""All forms of a message are read alike, with all their text; an unreadable message is refused by name."""

import copy
import pickle

import pytest

from gpmjax.data.fields import FieldError
from gpmjax.data.formats import parse_entry
from gpmjax.data.groups import Message, RichText, user
from gpmjax.data.messages import read_reply, text_or_messages, transcript_turns

CALL = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Oslo"}}}
CALL_IN_STRING = {"type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}
CALLED = RichText({"content": "", "tool_calls": [CALL]})


def read(*messages):
    return text_or_messages({"prompt": list(messages)}, "prompt", "f:1")


@pytest.mark.parametrize(
    "message, content",
    [
        ({"role": "user", "content": "Hi"}, "Hi"),
        ({"role": "user", "content": [{"type": "text", "text": "Hi"}]}, "Hi"),
        ({"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "you"}]}, "Hi\nyou"),
        ({"role": "user", "content": ["Hi", "you"]}, "Hi\nyou"),
        ({"role": "user", "content": [{"type": "text", "text": "Hi", "image_url": None}]}, "Hi"),
        ({"from": "human", "value": "Hi"}, "Hi"),
        ({"role": "user", "content": "Hi", "name": None, "tool_calls": [], "images": []}, "Hi"),
        ({"role": "user", "content": "Hi", "id": "x7", "timestamp": "noon", "toxic": False, "turn": 3}, "Hi"),
        ({"role": "user", "content": "Hi", "name": "Ann"}, RichText({"content": "Hi", "name": "Ann"})),
        ({"role": "user", "content": ""}, ""),
    ],
)
def test_all_forms_of_a_message_are_read_alike(message, content):
    (found,) = read(message)
    assert found == Message("user", content) and type(found.content) is type(content)


@pytest.mark.parametrize(
    "fields, content",
    [
        ({"content": None, "tool_calls": [CALL]}, CALLED),
        ({"tool_calls": [CALL]}, CALLED),
        ({"content": "", "tool_calls": [CALL_IN_STRING]}, CALLED),
        (
            {"content": "", "tool_calls": [CALL["function"]]},
            RichText({"content": "", "tool_calls": [CALL["function"]]}),
        ),
        ({"content": "51", "reasoning_content": "17 * 3"}, RichText({"content": "51", "reasoning_content": "17 * 3"})),
        ({"content": "51", "refusal": "No."}, RichText({"content": "51", "refusal": "No."})),
    ],
)
def test_a_reply_keeps_its_other_fields(fields, content):
    found = read_reply([{"role": "assistant", **fields}], "chosen", "f:1")
    assert found == content and found.fields == content.fields
    assert found != read_reply([{"role": "assistant", "content": fields.get("content") or ""}], "chosen", "f:1")
    for again in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found)):
        assert again == found and again.fields == found.fields


def test_the_text_of_a_reply_has_all_its_fields():
    said = RichText(
        {"content": "It is cold.", "reasoning_content": "Oslo.", "tool_calls": [CALL], "name": "Bot", "refusal": "No."}
    )
    assert said == (
        "Bot: <think>\nOslo.\n</think>\n\nIt is cold.\n<tool_call>\n"
        '{"arguments": {"city": "Oslo"}, "name": "get_weather"}\n</tool_call>\n<refusal>\nNo.\n</refusal>'
    )


@pytest.mark.parametrize(
    "message, problem",
    [
        ("Hi", "field 'prompt[0]': must be a message"),
        ({"role": "user"}, "field 'prompt[0]': must be a message"),
        ({"content": "Hi"}, "field 'prompt[0]': must be a message"),
        ({"role": "user", "content": None}, "field 'prompt[0]': must be a message"),
        ({"role": "user", "content": 3}, "field 'prompt[0].content': must be a string or a list of parts"),
        ({"role": "user", "content": []}, "field 'prompt[0].content': must be a string or a list of parts"),
        (
            {"role": "user", "content": [{"type": "text", "text": "What is it?"}, {"type": "image", "image": "a.png"}]},
            "field 'prompt[0].content[1]': must be a part of type 'text'; 'image' is not supported",
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]},
            "'image_url' is not supported",
        ),
        ({"role": "user", "content": "Look", "images": ["a.png"]}, "field 'prompt[0].images': is not supported"),
        ({"role": "user", "content": "Hear", "audio": {"id": "x"}}, "field 'prompt[0].audio': is not supported"),
        ({"role": "assistant", "tool_calls": "f()"}, "field 'prompt[0].tool_calls': must be a list of calls"),
        (
            {"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]},
            "field 'prompt[0].tool_calls': must be a list of calls",
        ),
        ({"from": "function_call", "value": "f()"}, "field 'prompt[0].from': must be one of human, "),
        ({"role": "tools", "content": "a hammer"}, "field 'prompt[0].content': must be a list of functions' schemas"),
    ],
)
def test_unreadable_messages_are_refused_by_name(message, problem):
    with pytest.raises(FieldError) as refused:
        read(message)
    assert problem in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        '[{"role": "assistant", "content": "It is 4."}]',
        "[{'role': 'assistant', 'content': 'It is 4.'}]",
        " [{'content': 'It is 4.', 'role': 'assistant'}]\n",
        '[{"from": "gpt", "value": "It is 4."}]',
        '{"role": "assistant", "content": "It is 4."}',
    ],
)
def test_messages_inside_a_string(text):
    entry = {"prompt": "What is 2 + 2?", "chosen": text, "rejected": text.replace("4", "5")}
    group = parse_entry(entry, "f:1")
    assert group.prompt == user("What is 2 + 2?") and group.responses == ("It is 4.", "It is 5.")


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2]",
        '{"role": "admin", "content": "x"}',
        '{"role": "user"}',
        '[{"name": "Hamlet", "role": "prince"}]',
        "[links](a) to {'role': 'user'}",
        "{",
        "[" * 100_000 + "'role': 'user'",
    ],
)
def test_texts_that_only_begin_like_messages_are_texts(text):
    assert read_reply(text, "chosen", "f:1") == text


def test_numpy_writes_messages_without_commas():
    with pytest.raises(
        FieldError, match="field 'chosen': looks like messages inside a string, but is neither JSON nor a Python"
    ):
        read_reply("[{'content': 'a', 'role': 'user'}\n {'content': 'b', 'role': 'assistant'}]", "chosen", "f:1")


@pytest.mark.parametrize(
    "text, turns",
    [
        ("\n\nHuman: a\n\nAssistant: b", ["a", "b"]),
        ("\n\nHuman: a", ["a"]),
        ("Human: a\n\nAssistant: see\nAssistant: b\n\nHuman: c\n\nAssistant:", ["a", "see\nAssistant: b", "c"]),
        ("Human: a\nAssistant: b", ["a", "b"]),
        ("Human: a Assistant:", ["a"]),
        ("Human: a", None),
        ("The Human: a\n\nAssistant: b", None),
        ("Humans\n\nAssistant: b", None),
    ],
)
def test_transcripts(text, turns):
    found = transcript_turns(text)
    assert (found if found is None else [message.content for message in found]) == turns
    assert found is None or [message.role for message in found] == (["user", "assistant"] * 2)[: len(found)]
