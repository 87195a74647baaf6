"""Answers on disk are whole lines, with concurrent writers and after kills."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from gpmjax.judges.answer_cache import AnswerCache, request_key

WRITER = """
import sys
from gpmjax.judges.answer_cache import AnswerCache
cache = AnswerCache(sys.argv[1])
for n in range(40):
    cache.put(f"{sys.argv[2]}-{n}", {"prompt": "x" * 5000}, {"text": "y" * 5000})
"""


def test_the_key_depends_on_the_whole_request():
    body = {"model": "m", "messages": [{"role": "user", "content": "é"}], "temperature": 0.0}
    keys = {request_key("http://a/v1", body), request_key("http://b/v1", body)}
    keys |= {
        request_key("http://a/v1", body | change)
        for change in ({"model": "n"}, {"temperature": 0.5}, {"top_logprobs": 5})
    }
    assert len(keys) == 5


def test_answers_are_read_back_and_an_unfinished_line_is_skipped(tmp_path):
    path = tmp_path / "deep" / "cache.jsonl"
    AnswerCache(path).put("a", {"q": 1}, {"text": "line\u2028break"})
    with path.open("a") as file:
        file.write('{"key": "b", "request": {}, "ans')
    cache = AnswerCache(path)
    assert cache.get("a") == {"text": "line\u2028break"} and cache.get("b") is None
    cache.put("b", {"q": 2}, {"text": "whole"})
    again = AnswerCache(path)
    assert again.get("b") == {"text": "whole"} and again.get("a") is not None


def test_processes_and_threads_write_whole_lines(tmp_path):
    path = tmp_path / "cache.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, name]) for name in "pq"]
    cache = AnswerCache(path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: cache.put(f"t-{n}", {}, {"text": "z" * 5000}), range(40)))
    assert [writer.wait(60) for writer in writers] == [0, 0]
    keys = [json.loads(line)["key"] for line in path.read_text().splitlines()]
    assert sorted(keys) == sorted(f"{name}-{n}" for name in "pqt" for n in range(40))


def test_a_file_that_is_no_cache_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"key": "a", "answer": 1}\n{"row": 0}\n')
    with pytest.raises(ValueError, match="rows.jsonl:2: must be an object with key and answer"):
        AnswerCache(path)
