"""The output of an exported chat template, whose replies end at EOS, is exactly what the model reads here."""

import datetime

import pytest

from gpmjax.data.chat import DATE, ChatFormat
from gpmjax.data.groups import Message
from gpmjax.data.reply_template import ending_at_eos, own_template

# Templates with the peculiarities of model families. The tokenizer's kind has their special tokens.
DEFAULT_SYSTEM = (  # SmolLM2 and Qwen 2.5: ChatML with a default system message
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You help.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
INDENTED = (  # Qwen 2.5 and 3: lines, trimming dashes, a namespace, a newline at the end
    "  {%- set last = namespace(role='') %}\n"
    "{%- for message in messages %}\n"
    "    {%- set last.role = message.role %}\n"
    "    {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt and last.role != 'assistant' %}\n"
    "    {{- '<|im_start|>assistant\n' }}\n"
    "{%- endif %}\n"
)
LEADING_BLOCK = (
    "    {% for m in messages %}\n<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n    {% endfor %}\n"
    "    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA31 = (  # the date of the caller, or today's if there is a clock
    "{{- bos_token }}\n{%- if date_string is not defined %}\n{%- if strftime_now is defined %}\n"
    '{%- set date_string = strftime_now("%d %b %Y") %}\n'
    "{%- else %}\n{%- set date_string = '26 Jul 2024' %}\n{%- endif %}\n{%- endif %}\n"
    "{{- '<|start|>system<|end|>\n\nToday: ' + date_string + '<|eot|>' }}\n"
    "{%- for m in messages %}\n"
    "{{- '<|start|>' + m['role'] + '<|end|>\n\n' + m['content'] | trim + '<|eot|>' }}\n{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n{{- '<|start|>assistant<|end|>\n\n' }}\n{%- endif %}\n"
)
DATE_VARIABLE = (
    "{{ bos_token }}{{ date_string if date_string is defined else '1 Jan 2020' }}{% for m in messages %}"
    "<|start|>{{ m.role }}<|end|>{{ m.content }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|end|>{% endif %}"
)
MISTRAL = (  # ends in EOS itself
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
ZEPHYR = (  # EOS after every turn, and a newline
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
MARKED = (  # {% generation %} marks for trainers
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{%- if m['role'] == 'assistant' -%}{% generation %}{{ m['content'] }}<|im_end|>"
    "{%- endgeneration %}{% else %}{{ m['content'] }}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
)
MACRO = (
    "{% macro turn(role, text) %}<start_of_turn>{{ role }}\n{{ text | trim }}<end_of_turn>\n{% endmacro %}"
    "{{ bos_token }}{% set names = {'user': 'user', 'assistant': 'model'} %}"
    "{% for m in messages %}{{ turn(names[m.role], m.content) }}{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
FAMILIES = {
    "smollm2": ("chatml", DEFAULT_SYSTEM),
    "qwen": ("chatml", INDENTED),
    "leading block": ("chatml", LEADING_BLOCK),
    "llama 3.1": ("llama3", LLAMA31),
    "date variable": ("llama3", DATE_VARIABLE),
    "mistral": ("dated", MISTRAL),
    "zephyr": ("dated", ZEPHYR),
    "marked": ("chatml", MARKED),
    "macro": ("gemma", MACRO),
    **{kind: (kind, None) for kind in ("chatml", "gemma", "llama3", "dated")},
}
ASKED = [{"role": "user", "content": "Why?"}]
CONVERSATIONS = [
    (*ASKED, {"role": "assistant", "content": reply}) for reply in ("So it is.", "", " spaced \n", "said: 😀 中文")
] + [(*ASKED, {"role": "assistant", "content": "Because."}, *ASKED, {"role": "assistant", "content": "Why not?"})]


@pytest.fixture(params=FAMILIES)
def pair(request, make_tokenizer):
    """(a tokenizer with a family's template, one with that template changed to end at EOS)."""
    kind, template = FAMILIES[request.param]
    own, read = make_tokenizer(kind), make_tokenizer(kind)
    own.chat_template = template or own.chat_template
    read.chat_template = ending_at_eos(own.chat_template, eos=own.eos_token, date=DATE)
    return own, read


@pytest.mark.parametrize("conversation", CONVERSATIONS, ids=lambda c: repr(c[-1]["content"]))
def test_the_output_is_what_the_model_reads(pair, conversation):
    own, read = pair
    chat = ChatFormat(own)
    if "messages[1]" in own.chat_template and len(conversation) > 2:
        conversation = conversation[:2]  # this template is made for two messages
    *prompt, reply = conversation
    ids, _, response = chat.encode([Message(**message) for message in prompt], reply["content"])
    assert read.apply_chat_template(list(conversation), return_dict=False) == ids + response
    assert (ids + response)[-1] == own.eos_token_id
    # A model that was trained on an exported template reads the same tokens.
    assert ChatFormat(read).encode([Message(**message) for message in prompt], reply["content"]) == (ids, _, response)


def test_prompts_and_generation_headers_are_unchanged(pair):
    own, read = pair
    told = {"date_string": "26 Jul 2024"} if "date_string" in own.chat_template else {}
    conversations = [ASKED, list(CONVERSATIONS[-1][:3])] if "messages[1]" not in own.chat_template else [ASKED]
    answered = tuple(
        tokenizer.apply_chat_template(list(CONVERSATIONS[0]), tokenize=False, add_generation_prompt=True, **told)
        for tokenizer in pair
    )
    assert answered[0] == answered[1] or "strftime_now" in own.chat_template
    for conversation in conversations:
        for header in (False, True):
            text, theirs = (
                tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=header, **more)
                for tokenizer, more in ((read, {}), (own, told))
            )
            if "2024" in text and not told:  # the unpinned template writes today's date
                theirs = theirs.replace(datetime.date.today().isoformat(), DATE.isoformat())
            assert text == theirs
    continued = [*ASKED, {"role": "assistant", "content": "So it"}]
    assert read.apply_chat_template(continued, tokenize=False, continue_final_message=True).endswith("So it")


def test_the_own_template_can_be_extracted(pair):
    own, read = pair
    assert own_template(own.chat_template) == own.chat_template
    again = ending_at_eos(read.chat_template, eos=own.eos_token, date=DATE)
    assert again == read.chat_template
    if "generation %}" not in own.chat_template:
        assert own_template(again) == own.chat_template.removesuffix("\n")


def test_whitespace_at_the_end_of_a_prompt_is_kept(make_tokenizer):
    tokenizer = make_tokenizer("dated")
    tokenizer.chat_template = ending_at_eos("{{ messages[0].content }}\n  ", eos="</s>", date=DATE)
    assert tokenizer.apply_chat_template(ASKED, tokenize=False) == "Why?\n  "


@pytest.mark.parametrize(("count", "begins"), [(0, "Why?"), (1, "<s>Why?"), (2, "<s><s>Why?")])
@pytest.mark.parametrize("template", ["{{ bos_token }}{{ messages[0]['content'] }}", "{{ messages[0]['content'] }}"])
def test_the_text_has_the_declared_number_of_bos(make_tokenizer, template, count, begins):
    tokenizer = make_tokenizer("dated")
    tokenizer.chat_template = ending_at_eos(template, eos="</s>", date=DATE, bos="<s>", bos_tokens=count)
    assert tokenizer.apply_chat_template(ASKED, tokenize=False) == begins
