"""A judge behind a real server, and files of answers."""

import json
import re

import numpy as np
import pytest

from gpmjax.judges.answer_cache import AnswerCache
from gpmjax.judges.chat_endpoint import ChatEndpoint
from gpmjax.sampling.http import Server


def _completion(text, tops=None, usage=(100, 1)):
    """An answer in OpenAI's format; ``tops`` are the likeliest tokens where the first one stands."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    if tops is not None:
        alternatives = [{"token": token, "logprob": float(np.log(p))} for token, p in tops.items()]
        said = {"token": text, "logprob": float(np.log(tops[text])), "top_logprobs": alternatives}
        choice["logprobs"] = {"content": [said]}
    answer = {"object": "chat.completion", "choices": [choice]}
    return answer | ({"usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1]}} if usage else {})


@pytest.fixture(scope="session")
def completion():
    return _completion


@pytest.fixture(scope="session")
def sides():
    """Prompt of a pair → the two responses in it."""
    return lambda prompt: re.findall(r"<response of [AB]>\n(.*?)\n</response of [AB]>", prompt, re.S)


@pytest.fixture
def replying(http_server):
    """(function of the prompt → answer) makes the server say that; so does anything else that the server can do."""

    def say(function):
        def behave(handler, body):
            handler.reply(200, json.dumps(function(body["messages"][0]["content"])))

        return behave

    return say


@pytest.fixture
def open_endpoint(http_server, tmp_path):
    def make(cache="cache.jsonl", **fields):
        server = Server(http_server.url, **(dict(timeout=20.0, retries=2, backoff=0.01) | fields))
        return ChatEndpoint(server, "judge", AnswerCache(tmp_path / cache))

    return make


@pytest.fixture
def write(tmp_path):
    """(name, rows) → path of a file that holds them as an array or, if it ends in .jsonl, as lines."""

    def make(name, rows):
        path = tmp_path / name
        lines = name.endswith(".jsonl")
        path.write_text("".join(json.dumps(row) + "\n" for row in rows) if lines else json.dumps(rows))
        return str(path)

    return make


@pytest.fixture
def outputs(write):
    """(name, generator, texts) → path of AlpacaEval-format answers to instructions 0, 1, …"""

    def make(name, generator, texts, **columns):
        rows = [
            {"instruction": f"instruction {n}", "output": text, "generator": generator} for n, text in enumerate(texts)
        ]
        return write(name, [row | {key: values[n] for key, values in columns.items()} for n, row in enumerate(rows)])

    return make
