"""Templates write the same text as in transformers, and their time and memory are limited."""

import json
import os
import threading

import pytest

from gpmjax.data import templates
from gpmjax.data.groups import TOOLS, Message, RichText
from gpmjax.data.templates import Ends, TemplateError, render
from tests.data.conftest import SPECIAL

ASK = (Message("user", "Hi <&> 'there'"),)
CALL = {"type": "function", "function": {"name": "f", "arguments": {"city": "Ålesund"}}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
RICH = (
    Message(TOOLS, json.dumps([TOOL])),
    *ASK,
    Message("assistant", RichText({"content": "", "tool_calls": [CALL], "reasoning": "Hm."})),
    Message("tool", RichText({"content": "4 C", "name": "f", "tool_call_id": "x"})),
)
WRITTEN = [
    *(special["template"] for special in SPECIAL.values()),
    "{{ tools | tojson(indent=2) }}{% for m in messages %}{{ m | tojson }}\n{% endfor %}",
    "{% for m in messages %}{% generation %}{% set x = 1 %}{{ m.content }}{% endgeneration %}{{ x is defined }}"
    "{% endfor %}",
    "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m['role'] }}{% endfor %}",
    "{% set ns = namespace(a='') %}{% for m in messages %}{% set ns.a = ns.a ~ m.role %}{% endfor %}"
    "{{ ns.a }}{{ dict(b=1) }}",
    "{{ bos_token }}{{ eos_token }}{{ documents is none }}{{ missing }}{{ messages[-1].reasoning_content }}"
    "{{ add_generation_prompt }}",
]  # fmt: skip


def write(template, messages=ASK, opens=False, count=1):
    written = render(template, [Ends(tuple(messages), [((), opens)])] * count, {"bos_token": "<s>"}, "2024-07-26")
    return written[0][0]


@pytest.mark.parametrize("template", WRITTEN, ids=range(len(WRITTEN)))
@pytest.mark.parametrize("messages", [ASK, RICH], ids=["plain", "rich"])
def test_output_equals_that_of_transformers(make_tokenizer, template, messages):
    tokenizer = make_tokenizer("llama3")
    spoken = [message.as_dict() for message in messages if message.role != TOOLS]
    tools = [TOOL] if messages is RICH else None
    for opens in (False, True):
        options = dict(tools=tools, tokenize=False, add_generation_prompt=opens, date_string="26 Jul 2024")
        if "strftime_now('%Y" in template:
            template = template.replace("{{ strftime_now('%Y-%m-%d') }}", "2024-07-26")
        expected = tokenizer.apply_chat_template(spoken, chat_template=template, **options)
        variables = {**tokenizer.special_tokens_map, "date_string": "26 Jul 2024"}
        assert render(template, [Ends(messages, [((), opens)])], variables, "2024-07-26") == [[expected]]


@pytest.mark.parametrize(
    "template, reason",
    [
        ("{{ 1/0 }}", "ZeroDivisionError: division by zero"),
        ("{{ raise_exception('No\nsystem.') }}", "No system."),
        ("{% for i in range(10**9) %}x{% endfor %}", "OverflowError: Range too big"),
        ("{{ 'x' * 10**10 }}", "needs more than 1 GiB of memory"),
        ("{{ 'x'.ljust(10**11) }}", "needs more than 1 GiB of memory"),
        ("{{ '%9999999999d' % 1 }}", "needs more than 1 GiB of memory"),
        ("{{ 'x' * 5 * 10**6 }}", "writes 5000000 characters"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{% if true %}" * 5000 + "{% endif %}" * 5000, "RecursionError"),
        ("{% for m in messages %}", "TemplateSyntaxError: Unexpected end of template"),
        ("{{ messages[0].content.nothing.more }}", "UndefinedError"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{{ namespace(__class__=1) }}", "SecurityError"),
        ("{{ 1 | nothing }}", "TemplateAssertionError: No filter named 'nothing'"),
    ],
)
def test_an_error_of_a_template_is_one_line(template, reason):
    with pytest.raises(TemplateError) as caught:
        write(template)
    assert caught.value.reason.startswith(reason) and "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert caught.value.roles == ("user",) and caught.value.refused == ("raise_exception" in template)
    assert write("{{ messages[0].role }}") == "user"


def test_an_endless_template_is_stopped():
    loops = "{% for i in range(99999) %}" * 3 + "{% endfor %}" * 3
    both = "{% if messages[1:] %}" + loops + "{% else %}fine{% endif %}"
    with pytest.raises(TemplateError, match="^takes more than 2 seconds of processor time$") as caught:
        render(
            both,
            [Ends(ASK, [((), False)]), Ends(ASK, [((), False), ((Message("tool", "x"),), False)])],
            {},
            "2024-07-26",
        )
    assert "user" in caught.value.roles
    assert write(both) == "fine"


def test_a_template_cannot_reach_python(monkeypatch):
    monkeypatch.setenv("SECRET", "hidden")
    with pytest.raises(TemplateError, match="SecurityError|UndefinedError"):
        write("{{ ''.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(TemplateError, match="SecurityError|UndefinedError"):
        write("{{ self.__init__.__globals__['os'].environ['SECRET'] }}")


def test_long_requests_are_sent_in_parts(monkeypatch):
    asked = []
    ask = templates._WORKER.ask
    monkeypatch.setattr(templates, "_LARGEST", 1000)
    monkeypatch.setattr(templates._WORKER, "ask", lambda request, count: asked.append(count) or ask(request, count))
    items = [Ends((Message("user", "x" * 300 + str(n)),), [((), False)]) for n in range(10)]
    written = render("{{ messages[0].content }}", items, {}, "2024-07-26")
    assert [text[300:] for (text,) in written] == [str(n) for n in range(10)] and asked == [2] * 5


def test_a_killed_process_is_started_again_and_threads_take_turns():
    assert write("a") == "a"
    templates._WORKER._process.kill()
    templates._WORKER._process.wait()
    assert write("b") == "b"
    found = {}

    def work(n):
        found[n] = [write("{{ messages[0].content }}", [Message("user", f"{n}.{k}")]) for k in range(20)]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: [f"{n}.{k}" for k in range(20)] for n in range(4)}


def test_a_fork_starts_its_own_process():
    assert write("a") == "a"
    parents = templates._WORKER._process
    templates._WORKER.forget()  # called in the child after a fork
    assert write("b") == "b" and templates._WORKER._process.pid != parents.pid and os.getpid() != parents.pid
    templates._WORKER._stop()
    templates._WORKER._process, templates._WORKER._parents = parents, None
    assert write("c") == "c"
