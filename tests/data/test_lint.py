"""Each trap is found when it is there, and not otherwise."""

import json

import pytest

from gpmjax.data.chat import ChatFormat
from gpmjax.data.lint import lint, longer_wins
from gpmjax.data.records import read_groups


@pytest.fixture
def found(tmp_path, make_tokenizer):
    """rows → {check: (level, count)}."""

    def run(rows, kind="chatml", template="chat", max_length=200):
        path = tmp_path / "p.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        findings = lint(str(path), ChatFormat(make_tokenizer(kind), template), max_length=max_length)
        assert all(str(tmp_path) not in finding.detail for finding in findings)
        return {finding.check: (finding.level, finding.count) for finding in findings}

    return run


def pair(chosen="yes", rejected="not", prompt="Q", **more):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected} | more


def test_clean_data_have_no_findings(found):
    assert found([pair(), pair("b", "a"), pair("a", "c")]) == {"rows": ("info", 3), "length bias": ("info", 3)}


def test_contradictions_whatever_the_section(found):
    assert found([pair(subset="x"), pair("not", "yes", subset="y")])["contradicting labels"] == ("error", 1)
    assert "contradicting labels" not in found([pair(), pair("not", "yes", prompt="R")])
    assert "contradicting labels" not in found([pair(), pair("not", "yes", chosen_probs=0.5)])
    assert found([pair("not", "yes", chosen_probs=0.0), pair(), pair()])["repeated labels"] == ("warning", 1)


def test_a_few_contradictions_are_noise(found):
    rows = [pair(f"a{n}", f"b{n}") for n in range(150)]
    assert found([*rows, pair("b0", "a0")])["contradicting labels"] == ("warning", 1)


def test_equal_sides(found):
    assert found([pair("a", "a"), pair()])["chosen == rejected"] == ("error", 1)
    long = "x" * 300
    findings = found([pair(long + "a", long + "b")])
    assert findings["equal after encoding"] == ("error", 1) and findings["truncation"] == ("warning", 1)
    assert found([pair("a ", "a")], kind="gemma")["equal after encoding"] == ("error", 1)


def test_tokens(found):
    assert found([pair(prompt="<bos>Q")], kind="gemma", template="raw").get("double BOS") is None
    assert found([pair(prompt="<bos><bos>Q")], kind="gemma", template="raw")["double BOS"] == ("error", 1)
    assert found([pair("no<|im_end|>w")])["EOS inside a response"] == ("warning", 1)
    assert found([pair()], kind="gemma")["missing EOS"] == ("warning", 1)
    assert found([pair()], kind="llama3")["date in template"] == ("warning", 1)


def test_rows(found):
    unlabelled = {"prompt": "Q", "responses": ["a"], "prefer": []}
    findings = found([pair(), {"prompt": "Q"}, pair(chosen=3), pair("", "a"), unlabelled])
    assert findings["unreadable rows"] == ("error", 2) and findings["empty responses"] == ("warning", 1)
    assert findings["no comparison"] == ("warning", 1)
    assert found([{"prompt": "Q"}]) == {"unreadable rows": ("error", 1)}


def test_length_bias(found):
    assert found([pair("long", "s"), pair("longer", "s")])["length bias"] == ("warning", 2)
    assert found([pair("s", "long"), pair("s", "longer")])["length bias"] == ("warning", 2)
    assert "length bias" not in found([pair(chosen_probs=0.5)])
    assert longer_wins(read_groups("builtin:rock_paper_scissors")) == pytest.approx(2 / 3)


def test_builtin_games_and_missing_files(make_tokenizer):
    chat = ChatFormat(make_tokenizer("chatml"))
    assert {f.level for f in lint("builtin:letters", chat, max_length=200)} == {"info"}
    with pytest.raises(FileNotFoundError):
        lint("nowhere.jsonl", chat, max_length=200)
