"""Token ids and the boundary of prompt and response agree with the tokenizer's own chat template."""

import dataclasses
import datetime
import json

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from gpmjax.data.chat import DATE, ChatFormat
from gpmjax.data.groups import TOOLS, Message, RichText, user

PROMPT = (Message("user", "Hi there"),)


def hf_ids(tokenizer, messages, **options):
    """The ids of the published code: the template applied by transformers, with the pinned date."""
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


def test_a_header_that_opens_thinking_belongs_to_the_answer(make_tokenizer):
    tokenizer = make_tokenizer("chatml")
    tokenizer.chat_template = tokenizer.chat_template.replace("assistant\n{% endif", "assistant\n<think>\n{% endif")
    chat = ChatFormat(tokenizer)
    prompt, _, response = chat.encode(PROMPT, "Hello")
    assert tokenizer.decode(prompt).endswith("assistant\n") and tokenizer.decode(response) == "Hello<|im_end|>"
    # A prompt to be answered ends in the whole header, and samples continue from there.
    (asked,) = chat.encode_all([(PROMPT, ())])
    assert tokenizer.decode(asked.prompt).endswith("assistant\n<think>\n") and chat.opening == "<think>\n"
    (ids,) = chat.continued(PROMPT, ["Hm.</think>Hello"])
    assert tokenizer.decode(ids) == "Hm.</think>Hello<|im_end|>"
    assert tokenizer.decode(chat.encode(PROMPT, "Hm.</think>Hello")[2]) == "<think>\nHm.</think>Hello<|im_end|>"
    assert chat.ask("Q") == "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"


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


def test_invalid_options_are_refused(make_tokenizer):
    tokenizer = make_tokenizer("gemma")
    with pytest.raises(ValueError, match="template='xml'.*'chat', 'raw'"):
        ChatFormat(tokenizer, "xml")
    with pytest.raises(ValueError, match="refuses messages of system, user .System role not supported"):
        ChatFormat(tokenizer).encode((Message("system", "s"), *PROMPT), "x")
    with pytest.raises(ValueError, match="takes turns of user and assistant, not of system; must be 'chat'"):
        ChatFormat(tokenizer, "raw").encode((Message("system", "s"), *PROMPT), "x")
    tokenizer.chat_template = "{% set f = '%Y' %}{{ strftime_now(f) }}"
    with pytest.raises(ValueError, match="cannot be pinned"):
        ChatFormat(tokenizer)
    tokenizer.chat_template = "{#" + "x" * 1_000_000 + "#}"
    with pytest.raises(ValueError, match="the chat template has 1000004 characters, must have at most 1000000"):
        ChatFormat(tokenizer)
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="no chat template; use 'raw'"):
        ChatFormat(tokenizer)
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="no EOS token"):
        ChatFormat(tokenizer, "raw")


# Like DeepSeek-R1's template: the header opens the reasoning, and finished replies lose theirs.
THINK_HEADER = (
    "{%- for m in messages -%}{%- if m['role'] == 'user' -%}{{ '<U>' + m['content'] }}"
    "{%- elif m['role'] == 'assistant' -%}"
    "{%- set c = m['content'] -%}{%- if '</think>' in c -%}{%- set c = c.split('</think>')[-1] -%}{%- endif -%}"
    "{{ '<A>' + c + '<|im_end|>' }}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<A><think>\\n' }}{%- endif -%}"
)
# Like Qwen3's template: the reasoning of the last turn only, tools and calls as JSON.
CALLS = (
    "{% if tools %}<tools>{{ tools | tojson }}</tools>{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.reasoning_content and loop.last %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
    "{{ m.content }}"
    "{% for call in m.tool_calls or [] %}<call>{{ call.function | tojson }}</call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CALL = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Oslo"}}}
TOOLS_FIRST = Message(TOOLS, json.dumps([{"type": "function", "function": {"name": "get_weather", "parameters": {}}}]))
CALLED = Message("assistant", RichText({"content": "", "tool_calls": [CALL]}))


@pytest.fixture
def with_template(make_tokenizer):
    def build(template):
        tokenizer = make_tokenizer("chatml")
        tokenizer.chat_template = template
        return ChatFormat(tokenizer)

    return build


def texts(chat, prompt, *responses):
    """The decoded prompt, and each decoded response."""
    (tokens,) = chat.encode_all([(prompt, responses)])
    return [chat.tokenizer.decode(ids) for ids in (tokens.prompt, *tokens.responses)]


def test_reasoning_is_opened_and_closed_once(with_template):
    chat, prompt = with_template(THINK_HEADER), user("Capital of Norway?")
    reasoned = "<think>\nThe king lives there.\n</think>\n\nOslo."
    opened = reasoned.removeprefix("<think>\n")
    assert texts(chat, prompt, "Oslo.", reasoned, opened) == [
        "<U>Capital of Norway?<A>", "Oslo.<|im_end|>", reasoned + "<|im_end|>", reasoned + "<|im_end|>",
    ]  # fmt: skip
    assert texts(chat, prompt, "Oslo.")[0] == texts(chat, prompt, reasoned)[0]
    assert texts(with_template(CALLS), prompt, reasoned)[1] == reasoned + "<|im_end|>"


def test_templates_write_tools_calls_and_reasoning(with_template):
    chat = with_template(CALLS)
    told = Message("tool", RichText({"content": "4 C", "name": "get_weather", "tool_call_id": "x1"}))
    prompt, reply, _ = texts(chat, (TOOLS_FIRST, *user("Weather?"), CALLED, told), "It is 4 C.", "No idea.")
    assert '<tools>[{"type": "function", "function": {"name": "get_weather", "parameters": {}}}]</tools>' in prompt
    assert (
        '<|im_start|>assistant\n<call>{"name": "get_weather", "arguments": {"city": "Oslo"}}</call><|im_end|>' in prompt
    )
    assert "<|im_start|>tool\n4 C<|im_end|>" in prompt and reply == "It is 4 C.<|im_end|>"
    _, called, _ = texts(chat, user("Weather?"), CALLED.content, "I cannot know.")
    assert called == '<call>{"name": "get_weather", "arguments": {"city": "Oslo"}}</call><|im_end|>'
    thought = [RichText({"content": "51", "reasoning_content": text}) for text in ("17 * 3 = 51", "about 40")]
    _, first, second = texts(chat, user("17 * 3?"), *thought)
    assert first == "<think>\n17 * 3 = 51\n</think>\n\n51<|im_end|>" and "about 40" in second
    earlier = Message("assistant", thought[0])  # the template drops the reasoning of earlier turns on purpose
    assert "about" not in texts(chat, (*user("17 * 3?"), earlier, *user("Sure?")), "Yes.")[0]


@pytest.mark.parametrize(
    "prompt, response, what",
    [
        ((TOOLS_FIRST, *PROMPT), "a", "leaves out tools"),
        ((*PROMPT, CALLED, Message("tool", "4 C")), "a", "leaves out 'tool_calls' of the assistant message"),
        (PROMPT, CALLED.content, "leaves out 'tool_calls' of the assistant message"),
        (
            PROMPT,
            RichText({"content": "51", "reasoning_content": "17 * 3"}),
            "leaves out 'reasoning_content' of the assistant",
        ),
        (PROMPT, RichText({"content": "51", "thinking": "17 * 3"}), "leaves out 'thinking' of the assistant"),
        ((Message("user", RichText({"content": "Hi", "name": "Ann"})),), "a", "leaves out 'name' of the user message"),
        (
            (Message("user", RichText({"content": "Hi", "mood": "angry"})),),
            "a",
            "leaves out 'mood' of the user message",
        ),
    ],
)
@pytest.mark.parametrize("responses", [1, 0])
def test_a_template_that_drops_a_field_is_refused(make_tokenizer, prompt, response, what, responses):
    chat = ChatFormat(make_tokenizer("chatml"))
    if responses or not isinstance(response, RichText):
        with pytest.raises(ValueError, match=f"^the chat template {what}") as refused:
            chat.encode_all([(prompt, (response,) * responses)])
        assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match="template='raw': (writes text only|takes turns of user and assistant)"):
        ChatFormat(make_tokenizer("chatml"), "raw").encode(prompt, response)


@pytest.mark.parametrize(
    "template, calls, what",
    [
        (CALLS.replace("m.tool_calls or []", "(m.tool_calls or [])[:1]"), [CALL, CALL], "'tool_calls'"),
        (CALLS.replace("call.function | tojson", "call.function.name"), [CALL], "'tool_calls'"),
    ],
)
def test_no_call_and_no_argument_is_left_out(with_template, template, calls, what):
    said = RichText({"content": "", "tool_calls": calls})
    with pytest.raises(ValueError, match=f"leaves out {what} of the assistant message"):
        with_template(template).encode(PROMPT, said)


def test_a_template_that_leaves_text_out_is_refused(with_template):
    silent = with_template("{% for m in messages if m.role != 'system' %}<{{ m.role }}>{{ m.content }}{% endfor %}")
    with pytest.raises(ValueError, match="leaves out the system message 'Be brief.', or part of it"):
        silent.encode((Message("system", "Be brief."), *PROMPT), "x")
    short = with_template("{% for m in messages %}<{{ m.role }}>{{ m.content[:8] }}{% endfor %}")
    assert texts(short, PROMPT, "Hello") == ["<user>Hi there", "<assistant>Hello<|im_end|>"]
    with pytest.raises(ValueError, match="leaves out part of the reply 'Hello, how do you do[?]'"):
        short.encode(PROMPT, "Hello, how do you do?")
    spaced = with_template("{% for m in messages %}<{{ m.role }}>{{ m.content.split() | join('  ') }}{% endfor %}")
    assert texts(spaced, PROMPT, " Good  day ")[1] == "<assistant>Good  day<|im_end|>"


def test_errors_of_templates_name_their_file(tmp_path, make_tokenizer):
    tokenizer = make_tokenizer("chatml")
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{{ 1/0 }}", encoding="utf-8")
    tokenizer = type(tokenizer).from_pretrained(tmp_path)
    expected = (
        f"the chat template ({tmp_path}/chat_template.jinja) fails on messages of user "
        "(ZeroDivisionError: division by zero)"
    )
    for use in (lambda chat: chat.encode(PROMPT, "x"), lambda chat: chat.writes_date, lambda chat: chat.ask("Q")):
        with pytest.raises(ValueError) as caught:
            use(ChatFormat(tokenizer))
        assert str(caught.value) == expected


def test_a_lone_surrogate_is_named(make_tokenizer):
    for template in ("chat", "raw"):
        with pytest.raises(ValueError, match="holds a lone surrogate"):
            ChatFormat(make_tokenizer("gemma"), template).encode(PROMPT, "Hi \ud83d")


def test_raw_turns_are_a_transcript(make_tokenizer):
    chat = ChatFormat(make_tokenizer("gemma"), "raw")
    turns = (*user("Who?"), Message("assistant", "Goethe."), *user("When?"))
    assert texts(chat, turns, "In 1808.") == [
        "<bos>Human: Who?\n\nAssistant: Goethe.\n\nHuman: When?\n\nAssistant:", " In 1808.<eos>",
    ]  # fmt: skip


def test_a_template_for_tools_is_used_for_tools(make_tokenizer):
    tokenizer = make_tokenizer("chatml")
    tokenizer.chat_template = {"default": tokenizer.chat_template, "tool_use": CALLS}
    chat = ChatFormat(tokenizer)
    with_tools, without = chat.encode_all([((TOOLS_FIRST, *PROMPT), ("x",)), (PROMPT, ("x",))])
    assert tokenizer.decode(with_tools.prompt).startswith("<tools>")
    assert tokenizer.decode(without.prompt).startswith("<|im_start|>user")
