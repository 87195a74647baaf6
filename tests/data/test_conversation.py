"""Every column that may be part of the conversation is in the prompt that a model reads, or the entry is refused."""

import json

import pytest

from gpmjax.data.conversation import read_prompt
from gpmjax.data.fields import FieldError
from gpmjax.data.formats import ParseOptions, parse_entry
from gpmjax.data.grouping import merge_groups
from gpmjax.data.groups import TOOLS, Message, RichText, user
from gpmjax.data.prompts import read_prompts

SIDES = {"chosen": "good", "rejected": "bad"}
ASK, SAID = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}
SYSTEM, EARLIER = Message("system", "S"), (Message("user", "Q"), Message("assistant", "A"))
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
TOOL_MESSAGE = Message(TOOLS, json.dumps([TOOL]))
NOW = user("Now?")

HONOURED = {
    "alpaca": ({"instruction": "Translate.", "input": "Good morning"}, user("Translate.\nGood morning")),
    "alpaca, no input": ({"instruction": "Translate.", "input": ""}, user("Translate.")),
    "input alone": ({"input": "Now?"}, NOW),
    "question": ({"question": "Now?"}, NOW),
    "query": ({"query": "Now?"}, NOW),
    "system": ({"prompt": "Now?", "system": "S"}, (SYSTEM, *NOW)),
    "no system": ({"prompt": "Now?", "system": " ", "history": [], "tools": "[]"[:0]}, NOW),
    "system_prompt": ({"prompt": "Now?", "system_prompt": "S"}, (SYSTEM, *NOW)),
    "system_message": ({"prompt": "Now?", "system_message": [{"role": "system", "content": "S"}]}, (SYSTEM, *NOW)),
    "system twice": ({"prompt": [{"role": "system", "content": "S"}, ASK], "system": "S"}, (SYSTEM, *user("Q"))),
    "history": ({"prompt": "Now?", "history": [["Q", "A"]]}, (*EARLIER, *NOW)),
    "history of messages": ({"prompt": "Now?", "history": [ASK, SAID]}, (*EARLIER, *NOW)),
    "history in a string": ({"prompt": "Now?", "history": "[['Q', 'A']]"}, (*EARLIER, *NOW)),
    "history as a transcript": ({"prompt": "Now?", "history": "\n\nHuman: Q\n\nAssistant: A"}, (*EARLIER, *NOW)),
    "history again": (
        {"prompt": [ASK, SAID, {"role": "user", "content": "Now?"}], "history": [["Q", "A"]]}, (*EARLIER, *NOW)
    ),
    "system and history": ({"system": "S", "history": [["Q", "A"]], "instruction": "Now?"}, (SYSTEM, *EARLIER, *NOW)),
    "tools": ({"prompt": "Now?", "tools": [TOOL], "system": "S"}, (TOOL_MESSAGE, SYSTEM, *NOW)),
    "tools in a string": ({"prompt": "Now?", "tools": json.dumps([TOOL])}, (TOOL_MESSAGE, *NOW)),
    "tools as strings": ({"prompt": "Now?", "tools": [json.dumps(TOOL)]}, (TOOL_MESSAGE, *NOW)),
    "messages": ({"messages": [ASK, SAID, {"role": "user", "content": "Now?"}]}, (*EARLIER, *NOW)),
    "conversations": (
        {"conversations": [
            {"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}, {"from": "human", "value": "Now?"}
        ]},
        (*EARLIER, *NOW),
    ),
    "conversation in a string": ({"conversation": json.dumps([ASK])}, user("Q")),
    "transcript": ({"prompt": "\n\nHuman: Q\n\nAssistant: A\n\nHuman: Now?\n\nAssistant:"}, (*EARLIER, *NOW)),
    "transcript without blank lines before it": (
        {"prompt": "Human: Q\n\nAssistant: A\n\nHuman: Now?\n\nAssistant:"}, (*EARLIER, *NOW)
    ),
    "transcript of single lines": ({"prompt": "Human: Q\nAssistant: A\nHuman: Now?\nAssistant:"}, (*EARLIER, *NOW)),
    "transcript in one line": ({"prompt": " Human: Now? Assistant:"}, NOW),
    "not a transcript": ({"prompt": "Human: an animal?"}, user("Human: an animal?")),
    "context repeats it": ({"prompt": "Read this: T. Now?", "context": "T."}, user("Read this: T. Now?")),
    "messages repeat it": ({"prompt": "Q", "messages": [ASK, {"role": "assistant", "content": "good"}]}, user("Q")),
    "numbers": ({"prompt": "Q", "history": None, "context": 3, "documents": []}, user("Q")),
}  # fmt: skip

REFUSED = {
    "input beside a prompt": ({"prompt": "Translate.", "input": "Hi"}, "'input': may be part of the conversation"),
    "input behind messages": ({"instruction": [ASK, SAID, ASK], "input": "x"}, "'input': must be a string behind"),
    "context": (
        {"prompt": "Q", "context": "The text."},
        "'context': may be part of the conversation, and is not read beside 'prompt'",
    ),
    "context behind an instruction": ({"instruction": "Q", "context": "The text."}, "'context': may be part"),
    "Context": ({"prompt": "Q", "Context": "The text."}, "'Context': may be part"),
    "System Prompt": ({"prompt": "Q", "System Prompt": "S"}, "'System Prompt': may be part"),
    "two prompts": ({"prompt": "Q", "instruction": "Another"}, "'instruction': may be part"),
    "messages beside": ({"prompt": "Q", "messages": [{"role": "user", "content": "Else"}]}, "'messages': may be part"),
    "conversations beside": (
        {"prompt": "Q", "conversations": [{"from": "human", "value": "Else"}]}, "'conversations': may be part"
    ),
    "documents": ({"prompt": "Q", "documents": [{"title": "T", "text": "Text"}]}, "'documents': may be part"),
    "functions": ({"prompt": "Q", "functions": [{"name": "f"}]}, "'functions': may be part"),
    "prefill": ({"prompt": "Q", "prefill": "Sure,"}, "'prefill': may be part"),
    "tool_calls": ({"prompt": "Q", "tool_calls": [{"function": {"name": "f"}}]}, "'tool_calls': may be part"),
    "reasoning_content": ({"prompt": "Q", "reasoning_content": "Hm."}, "'reasoning_content': may be part"),
    "images": (
        {"prompt": "Q", "images": [{"bytes": "x", "path": None}]}, "'images': is not supported; conversations are text"
    ),
    "image": ({"prompt": "Q", "image": "a.png"}, "'image': is not supported"),
    "audio": ({"prompt": "Q", "audio": "a.wav"}, "'audio': is not supported"),
    "two systems": ({"prompt": [{"role": "system", "content": "S"}, ASK], "system": "Other"}, "'system': differs"),
    "two system columns": ({"prompt": "Q", "system": "S", "system_prompt": "T"}, "'system_prompt': differs"),
    "odd system": ({"prompt": "Q", "system": [ASK]}, "'system': must be a string, or one system message"),
    "odd history": ({"prompt": "Q", "history": "once upon a time"}, "'history': must be pairs"),
    "odd history in pairs": ({"prompt": "Q", "history": [["a", "b", "c"]]}, "'history[0]': must be a message"),
    "odd tools": ({"prompt": "Q", "tools": "a hammer"}, "'tools': must be a list of functions' schemas"),
    "tools twice": ({"prompt": [{"role": "tools", "content": [TOOL]}, ASK], "tools": [TOOL, TOOL]}, "'tools': differ"),
    "broken string": ({"prompt": "[{'role': 'user' 'content': 'Q'}]"}, "'prompt': looks like messages inside a string"),
    "role": ({"conversations": [{"from": "narrator", "value": "Q"}]}, "'conversations[0].from': must be one of human"),
}  # fmt: skip


@pytest.mark.parametrize("fields, prompt", HONOURED.values(), ids=HONOURED)
def test_every_column_of_the_conversation_is_in_the_prompt(fields, prompt):
    assert parse_entry({**fields, **SIDES}, "f:1").prompt == prompt
    group = {"responses": ["good", "bad"], "comparisons": [{"chosen_idx": 0, "rejected_idx": 1}]}
    assert parse_entry({**fields, **group}, "f:1").prompt == prompt


@pytest.mark.parametrize("fields, message", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("answered", [True, False], ids=["pairs", "prompts"])
def test_columns_that_would_be_lost_are_refused(fields, message, answered):
    with pytest.raises(FieldError) as refused:
        parse_entry({**fields, **SIDES}, "f:7") if answered else read_prompt(fields, "f:7")
    assert (
        str(refused.value).startswith("f:7: field ")
        and message in str(refused.value)
        and "\n" not in str(refused.value)
    )


def test_equal_instructions_on_different_inputs_stay_apart():
    """Entries in LLaMA-Factory's form of alpaca give four prompts and no contradiction."""
    ask = "Is this review positive or negative?"
    entries = [
        {"instruction": ask, "input": "I loved every minute of it.", "chosen": "Positive.", "rejected": "Negative."},
        {
            "instruction": ask,
            "input": "Two hours that I shall not get back.",
            "chosen": "Negative.",
            "rejected": "Positive.",
        },
        {
            "instruction": "Translate into French.",
            "input": "Good morning",
            "chosen": "Bonjour",
            "rejected": "Bonne nuit",
        },
        {"instruction": "Translate into French.", "input": "Good night", "chosen": "Bonne nuit", "rejected": "Bonjour"},
    ]
    groups = merge_groups(parse_entry(entry, "f:1") for entry in entries)
    assert [len(group.comparisons) for group in groups] == [1, 1, 1, 1]
    assert groups[2].prompt == user("Translate into French.\nGood morning")


def test_columns_stand_before_conversations_without_a_prompt_column():
    sides = {
        "chosen": [ASK, {"role": "assistant", "content": "good"}],
        "rejected": [ASK, {"role": "assistant", "content": "bad"}],
    }
    group = parse_entry({**sides, "system": "S", "tools": [TOOL], "history": [["Q", "A"]]}, "f:1")
    assert group.prompt == (TOOL_MESSAGE, SYSTEM, *EARLIER, *user("Q")) and group.responses == ("good", "bad")
    assert parse_entry({**sides, "messages": [*sides["chosen"]]}, "f:1").prompt == user("Q")
    with pytest.raises(FieldError, match="'messages': may be part"):
        parse_entry({**sides, "messages": [{"role": "system", "content": "Be brief."}, *sides["chosen"]]}, "f:1")


def test_a_begun_answer_is_continued():
    begun = [{"role": "user", "content": "Write a JSON object."}, {"role": "assistant", "content": '{"a":'}]
    pair = parse_entry({"prompt": begun, "chosen": " 1}", "rejected": " oops"}, "f:1")
    assert pair.prompt == user("Write a JSON object.") and pair.responses == ('{"a": 1}', '{"a": oops')
    several = parse_entry({"prompt": begun, "responses": [" 1}", " 2}"], "prefer": [[0, 1]]}, "f:1")
    assert several.prompt == pair.prompt and several.responses == ('{"a": 1}', '{"a": 2}')
    ranked = parse_entry({"context": begun, "completions": [{"rank": 1, "completion": " 3}"}]}, "f:1")
    assert ranked.responses == ('{"a": 3}',)
    in_words = parse_entry({"prompt": "Human: Q\n\nAssistant: Well", "chosen": ", yes", "rejected": ", no"}, "f:1")
    assert in_words.prompt == user("Q") and in_words.responses == ("Well, yes", "Well, no")


def test_begun_answers_that_cannot_be_continued_are_refused(tmp_path):
    begun, reply = [ASK, SAID], lambda text: [{"role": "assistant", "content": text}]
    entries = [
        (
            {"prompt": begun, "chosen": reply("x"), "rejected": reply("y")},
            "'chosen': is a separate message after an assistant's",
        ),
        (
            {"chosen": [*begun, *reply("x")], "rejected": [*begun, *reply("y")]},
            "'chosen': is a separate message after",
        ),
        ({"prompt": [SAID], **SIDES}, "'prompt': is an assistant's turn alone"),
        (
            {"prompt": [ASK, SAID | {"reasoning_content": "Hm."}], **SIDES},
            "'prompt': ends with an assistant's turn that cannot be",
        ),
    ]
    for entry, message in entries:
        with pytest.raises(FieldError, match=message):
            parse_entry(entry, "f:1")
    for entry in ({"prompt": begun}, {"prompt": begun, **SIDES}, {"prompt": "Human: Q\n\nAssistant: Well", **SIDES}):
        (tmp_path / "p.jsonl").write_text(json.dumps(entry) + "\n", encoding="utf-8")
        with pytest.raises(
            FieldError, match=r"p.jsonl:1: field 'prompt': ends with an assistant's turn; a prompt ends with"
        ):
            read_prompts(str(tmp_path / "p.jsonl"))
    with pytest.raises(ValueError, match="prefill='drop': must be one of 'continue', 'refuse'"):
        ParseOptions(prefill="drop")


def test_a_transcript_in_the_prompt_column_reads_as_without_one():
    turns = "\n\nHuman: Who wrote Faust?\n\nAssistant: Goethe.\n\nHuman: When?\n\nAssistant:"
    with_column = parse_entry({"prompt": turns, "chosen": " In 1808.", "rejected": " No idea."}, "f:1")
    without = parse_entry({"chosen": turns + " In 1808.", "rejected": turns + " No idea."}, "f:1")
    both = parse_entry({"prompt": turns, "chosen": turns + " In 1808.", "rejected": turns + " No idea."}, "f:1")
    assert with_column == without == both
    assert [message.content for message in with_column.prompt] == ["Who wrote Faust?", "Goethe.", "When?"]
    assert with_column.responses == ("In 1808.", "No idea.")


def test_a_policys_prompt_has_all_columns(tmp_path):
    entry = {"system": "S", "instruction": "Translate.", "input": "Good night", "tools": [TOOL], "output": "Bonne nuit"}
    (tmp_path / "p.jsonl").write_text(json.dumps(entry) + "\n", encoding="utf-8")
    (prompt,) = read_prompts(str(tmp_path / "p.jsonl"))
    assert prompt.messages == (TOOL_MESSAGE, SYSTEM, *user("Translate.\nGood night"))


def test_messages_with_different_calls_are_different():
    functions = [{"name": "f", "arguments": {"city": city}} for city in ("Oslo", "Rome", "Oslo")]
    said = [
        Message("assistant", RichText({"content": "", "tool_calls": [{"type": "function", "function": function}]}))
        for function in functions
    ]
    assert said[0] == said[2] != said[1] and len(set(said)) == 2
    assert all(message.content for message in said) and Message.unpacked(**said[0].packed()) == said[0]
