"""The linter finds each mistake if and only if it is there."""

import json

import pytest

from gpmjax.data.chat import ChatFormat
from gpmjax.data.group_files import read_groups
from gpmjax.data.lint import lint, longer_wins


@pytest.fixture
def details():
    """Check → detail, of the last call of ``found``."""
    return {}


@pytest.fixture
def found(tmp_path, make_tokenizer, details):
    """Lints entries: returns {check: (level, count)}."""

    def run(entries, kind="chatml", template="chat", max_length=200):
        path = tmp_path / "p.jsonl"
        path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        findings = lint(str(path), ChatFormat(make_tokenizer(kind), template), max_length=max_length)
        details.clear()
        details.update({finding.check: finding.detail for finding in findings})
        assert all(str(tmp_path) not in finding.detail for finding in findings)
        return {finding.check: (finding.level, finding.count) for finding in findings}

    return run


def pair(chosen="yes", rejected="not", prompt="Q", **more):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected} | more


def test_clean_data_give_no_warning(found):
    assert found([pair(), pair("b", "a"), pair("a", "c")]) == {"entries": ("info", 3), "length bias": ("info", 3)}


def test_contradictions_across_sections(found):
    assert found([pair(subset="x"), pair("not", "yes", subset="y")])["contradicting labels"] == ("error", 1)
    assert "contradicting labels" not in found([pair(), pair("not", "yes", prompt="R")])
    assert "contradicting labels" not in found([pair(), pair("not", "yes", chosen_probs=0.5)])
    assert found([pair("not", "yes", chosen_probs=0.0), pair(), pair()])["repeated labels"] == ("warning", 1)


def test_few_contradictions_are_a_warning(found):
    entries = [pair(f"a{n}", f"b{n}") for n in range(150)]
    assert found([*entries, pair("b0", "a0")])["contradicting labels"] == ("warning", 1)


def test_equal_sides(found):
    assert found([pair("a", "a"), pair()])["chosen == rejected"] == ("error", 1)
    long = "x" * 300
    findings = found([pair(long + "a", long + "b")])
    assert findings["equal after encoding"] == ("error", 1) and findings["truncation"] == ("warning", 1)
    assert found([pair("a ", "a")], kind="gemma")["equal after encoding"] == ("error", 1)


def test_special_tokens_and_dates(found):
    assert found([pair(prompt="<bos>Q")], kind="gemma", template="raw").get("double BOS") is None
    assert found([pair(prompt="<bos><bos>Q")], kind="gemma", template="raw")["double BOS"] == ("error", 1)
    assert found([pair("no<|im_end|>w")])["EOS inside a response"] == ("warning", 1)
    assert found([pair()], kind="gemma")["missing EOS"] == ("warning", 1)
    assert found([pair()], kind="llama3")["date in template"] == ("warning", 1)


def test_unreadable_and_unlabelled_entries(found):
    unlabelled = {"prompt": "Q", "responses": ["a"], "prefer": []}
    findings = found([pair(), {"prompt": "Q"}, pair(chosen=3), pair("", "a"), unlabelled])
    assert findings["unreadable entries"] == ("error", 2) and findings["empty responses"] == ("warning", 1)
    assert findings["no comparison"] == ("warning", 1)
    assert found([{"prompt": "Q"}]) == {"unreadable entries": ("error", 1)}


def test_tags_and_columns_not_read(found, details):
    entries = [pair(subset="s", id=3, meta={"seen": 1}), pair("b", "a", other={}, note=None)]
    findings = found(entries)
    assert findings["columns read as tags"] == ("info", 2) and findings["columns not read"] == ("warning", 1)
    assert details["columns read as tags"] == "no model reads them: subset, id"
    assert details["columns not read"] == "neither text nor numbers: meta"
    assert "columns read as tags" not in found([pair(margin=2, system="S", history=[["a", "b"]])])


def test_messages_in_strings_and_lost_fields(found, details):
    text = json.dumps([{"role": "assistant", "content": "It is 4."}])
    findings = found([pair(text, text.replace("4", "5")), pair()])
    assert findings["messages in strings"] == ("warning", 1) and details["messages in strings"].endswith(": p.jsonl:1")
    turns = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": ""}, {"role": "user", "content": "R"}]
    assert found([pair(prompt=turns)])["empty turns"] == ("warning", 1)
    lost = [{"role": "assistant", "content": "51", "reasoning_content": text} for text in ("a", "b")]
    findings = found([pair(), pair([lost[0]], [lost[1]]), pair(context="The text.")])
    assert findings["refused by the template"] == ("error", 1) and findings["unreadable entries"] == (
        "error",
        1,
    )
    assert details["refused by the template"].startswith("p.jsonl:2: the chat template leaves out 'reasoning_content'")
    assert details["unreadable entries"].startswith("p.jsonl:3: field 'context': may be part of the conversation")
    assert findings["entries"] == ("info", 1)


@pytest.mark.parametrize(
    "line, problem",
    [
        (b'{"prompt": "Say hi.", "chosen": "Hi \\ud83d", "rejected": "No."}', "field 'chosen': holds a lone surrogate"),
        (
            b'{"prompt": "q", "chosen": "a", "rejected": "b", "margin": 1' + b"0" * 400 + b"}",
            "field 'margin': must be a finite",
        ),
        (
            b'{"prompt": "q", "margin": 1' + b"0" * 5000 + b"}",
            "cannot be read as JSON (a number of more than 4300 digits)",
        ),
        (b'{"prompt": ' + b"[" * 100_000, "cannot be read as JSON (lists or objects nested too deeply)"),
        (b'{"prompt": "\xff"}', "not UTF-8 (byte 0xff)"),
        (b"{", "not valid JSON"),
    ],
    ids=["lone surrogate", "400 digits", "5000 digits", "nesting", "not UTF-8", "not JSON"],
)
def test_an_unreadable_entry_is_an_error(tmp_path, make_tokenizer, line, problem):
    good = b'{"prompt": "Say bye.", "chosen": "Bye.", "rejected": "No."}\n'
    (tmp_path / "p.jsonl").write_bytes(good + line + b"\n" + good)
    first, *_ = lint(str(tmp_path / "p.jsonl"), ChatFormat(make_tokenizer("chatml")), max_length=200)
    assert first[:3] == ("error", "unreadable entries", 1) and first.detail.startswith(f"p.jsonl:2: {problem}")
    assert "\n" not in first.detail and len(first.detail) < 200
    with pytest.raises(ValueError, match=r"p.jsonl:2: ") as caught:
        read_groups(str(tmp_path / "p.jsonl"))
    assert problem in str(caught.value) and "\n" not in str(caught.value)


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
