"""Groups are read from sources and numbered; written groups are read back unchanged."""

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from gpmjax.data.group_files import number_comparisons, read_groups, write_groups
from gpmjax.data.groups import TOOLS, Comparison, Group, Message, RichText

TEXT = st.text(max_size=5)
COMPARISON = st.builds(
    Comparison,
    st.integers(0, 1),
    st.integers(0, 2),
    st.sampled_from([1.0, 0.5, 0.25]),
    st.sampled_from([0.0, 1.5]),
    st.sampled_from([1.0, 2.0]),
)
PROMPT = st.lists(st.builds(Message, st.sampled_from(["user", "system"]), TEXT), min_size=1, max_size=2)
GROUP = st.builds(
    lambda prompt, responses, comparisons, tags: Group(tuple(prompt), responses, tuple(comparisons), tags),
    PROMPT,
    st.tuples(TEXT, TEXT, TEXT),
    st.lists(COMPARISON, max_size=3),
    st.dictionaries(st.sampled_from(["subset", "n"]), st.integers() | TEXT),
)
PAIR = st.builds(
    lambda prompt, a, b, target, margin: Group(tuple(prompt), (a, b), (Comparison(0, 1, target, margin),)),
    PROMPT,
    TEXT,
    TEXT,
    st.sampled_from([1.0, 0.5]),
    st.sampled_from([0.0, -1.0]),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(groups=st.lists(GROUP | PAIR, min_size=1, max_size=4))
def test_written_groups_read_back(tmp_path, groups):
    for name in ("g.jsonl", "g.jsonl.gz"):
        path = tmp_path / name
        write_groups(path, groups)
        back = [Group(g.prompt, g.responses, g.comparisons, g.tags) for g in read_groups(str(path))]
        assert back == number_comparisons(groups)
    assert {p.name for p in tmp_path.iterdir()} == {"g.jsonl", "g.jsonl.gz"}


CALL = {"type": "function", "function": {"name": "f", "arguments": {"city": "Oslo"}}}
CALLED = RichText({"content": "", "tool_calls": [CALL]})
HARD = {
    "a prompt that is a transcript": Group(
        (Message("user", "Human: a\n\nAssistant:"),), ("b", "c"), (Comparison(0, 1),)
    ),
    "a prompt that is messages": Group(
        (Message("user", '[{"role": "user", "content": "a"}]'),), ("b", "c"), (Comparison(0, 1),)
    ),
    "a reply that is messages": Group(
        (Message("user", "a"),), ('[{"role": "user", "content": "b"}]', "c"), (Comparison(0, 1),)
    ),
    "a reply that is a transcript": Group(
        (Message("user", "a"),), ("\n\nHuman: b\n\nAssistant: d", "c"), (Comparison(0, 1),)
    ),
    "a call for a reply": Group((Message("user", "a"),), ("b", CALLED), (Comparison(1, 0),)),
    "calls among replies": Group((Message("user", "a"),), ("b", CALLED, "c"), (Comparison(1, 0),)),
    "tools and calls": Group(
        (
            Message(TOOLS, '[{"type": "function"}]'),
            Message("user", "a"),
            Message("assistant", CALLED),
            Message("tool", "4 C"),
        ),
        ("b", RichText({"content": "c", "reasoning_content": "d"})),
        (Comparison(0, 1),),
    ),
}


@pytest.mark.parametrize("group", HARD.values(), ids=HARD)
def test_texts_that_look_like_messages_are_read_back_as_texts(tmp_path, group):
    write_groups(tmp_path / "g.jsonl", [group])
    (back,) = read_groups(str(tmp_path / "g.jsonl"))
    pairs = [(c.chosen, c.rejected) for c in back.comparisons]
    assert back.prompt == group.prompt and [back.responses[i] for i, _ in pairs] == [
        group.responses[c.chosen] for c in group.comparisons
    ]
    assert sorted(back.responses) == sorted(group.responses)
    expected = [getattr(text, "fields", None) for text in sorted(group.responses)]
    assert [getattr(text, "fields", None) for text in sorted(back.responses)] == expected


def test_comparisons_are_numbered_from_the_first_number():
    groups = read_groups("builtin:letters", first_number=100)
    assert [c.number for g in groups for c in g.comparisons] == list(range(100, 124))


def test_errors_name_file_line_and_field(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n{"prompt": "a", "chosen": 7}\n')
    with pytest.raises(
        ValueError, match=r"p.jsonl:2: field 'chosen': must be a string or a list of messages, is int 7"
    ):
        read_groups(str(tmp_path / "p.jsonl"))


def test_unknown_games_and_arguments_are_refused():
    with pytest.raises(ValueError, match="builtin:chess: no such game; allowed: builtin:letters, "):
        read_groups("builtin:chess")
    with pytest.raises(ValueError, match="m='3'; allowed: n=NUMBER"):
        read_groups("builtin:n_cycle?m=3")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "g.jsonl"
    write_groups(path, read_groups("builtin:letters"))
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_groups(path, [Group((Message("user", object()),), ("a", "b"))])
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(ValueError, match="must end in .jsonl"):
        write_groups(tmp_path / "g.csv", [])
