"""Questions contain their texts once, and truncate them without regard to the group's other responses."""

import dataclasses

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from gpmjax.data.chat import ChatFormat
from gpmjax.data.encode import encode_each
from gpmjax.data.groups import Comparison, Group, user
from gpmjax.data.questions import (
    QUESTIONS,
    QuestionFormat,
    question_for,
    question_named,
    response_format,
    verdict_tokens,
)

PAIRWISE = [name for name, question in QUESTIONS.items() if question.pairwise]
GROUP = Group(
    user("Tea or coffee?"),
    ("Tea.", "Coffee, always.", "Neither."),
    (Comparison(0, 1, number=0), Comparison(2, 1, target=0.75, margin=0.5, number=1)),
    where="f:1",
)


def texts(asked, tokenizer):
    return [tokenizer.decode(asked.prompt + question) for question in asked.questions]


def ask(tokenizer, name, group=GROUP, *, max_length=400, order="both"):
    return QuestionFormat(ChatFormat(tokenizer), question_named(name), order).ask(group, max_length)


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_reads_as_its_template_does(tokenizer, name):
    asked = ask(
        tokenizer, name, dataclasses.replace(GROUP, responses=GROUP.responses[:2], comparisons=(Comparison(1, 0),))
    )
    question = QUESTIONS[name]
    pairs = [(1, 0), (0, 1)] if question.pairwise else [(0,), (1,)]
    names = ("first", "second") if question.pairwise else ("response",)
    for text, pair in zip(texts(asked, tokenizer), pairs, strict=True):
        sides = dict(zip(names, (GROUP.responses[n] for n in pair), strict=True))
        body = question.text.format(prompt="Tea or coffee?", eos=tokenizer.eos_token, **sides)
        assert body.strip() in text
        assert text.count(tokenizer.bos_token) <= 1 + tokenizer.chat_template.count("im_start")  # BOS is never doubled


def test_the_common_tokens_are_the_prompt_and_each_question_keeps_a_token(make_tokenizer):
    asked = ask(make_tokenizer("chatml"), "one_or_two")
    assert len(asked.questions) == 4 and all(asked.questions)
    heads = {tuple(question[:1]) for question in asked.questions}
    assert len(heads) > 1  # otherwise the common prompt could be longer
    alone = ask(
        make_tokenizer("chatml"),
        "one_or_two",
        dataclasses.replace(GROUP, comparisons=GROUP.comparisons[:1]),
        order="shuffled",
    )
    assert len(alone.questions) == 1 and len(alone.questions[0]) == 1


@pytest.mark.parametrize("name", PAIRWISE)
def test_both_orders_of_a_comparison_are_asked(make_tokenizer, name):
    asked = ask(make_tokenizer("llama3"), name)
    said = texts(asked, make_tokenizer("llama3"))
    for c, original in zip(asked.comparisons, GROUP.comparisons, strict=True):
        chosen, rejected = GROUP.responses[original.chosen], GROUP.responses[original.rejected]
        assert said[c.chosen].index(chosen) < said[c.chosen].index(rejected)
        assert said[c.rejected].index(rejected) < said[c.rejected].index(chosen)
        assert (c.target, c.margin, c.number) == (original.target, original.margin, original.number)


def test_a_shuffled_order_does_not_depend_on_the_label(make_tokenizer):
    """The order depends on the texts alone; the target is the probability of the first response."""
    firsts = []
    for n in range(40):
        group = Group(user(f"q{n}"), ("yes", "no"), (Comparison(0, 1),))
        turned = Group(user(f"q{n}"), ("yes", "no"), (Comparison(1, 0, margin=2.0),))
        one, other = (ask(make_tokenizer("gemma"), "a_or_b", g, order="shuffled") for g in (group, turned))
        assert one.questions == other.questions and len(one.questions) == 1
        (a,), (b,) = one.comparisons, other.comparisons
        assert a.chosen == a.rejected == 0 and a.target + b.target == 1
        assert b.margin == (2.0 if b.target == 1 else -2.0)
        firsts.append(a.target)
    assert 8 < sum(firsts) < 32


@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=300), st.sampled_from(sorted(QUESTIONS)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_question_fits_and_depends_on_its_own_texts_alone(make_tokenizer, prompt, one, two, name):
    tokenizer = make_tokenizer("chatml")
    group = Group(user("q" + prompt), (one, two, "a third"), (Comparison(0, 1), Comparison(1, 2)))
    asked = ask(tokenizer, name, group, max_length=330)
    whole = ask(tokenizer, name, group, max_length=5000)
    told = [asked.prompt + question for question in asked.questions]
    assert max(map(len, told)) <= 330
    for cut, uncut in zip(told, (whole.prompt + question for question in whole.questions), strict=True):
        assert len(uncut) > 330 or cut == uncut  # a question that fits is not cut
    company = dataclasses.replace(group, responses=(one, two, "x" * 400))
    other = ask(tokenizer, name, company, max_length=330)
    about_both = 2  # the first two questions are about one and two
    assert told[:about_both] == [other.prompt + question for question in other.questions[:about_both]]
    for part, text in zip(asked.responses, group.responses, strict=True):
        assert part.text == text[: len(part.text)] and part.cut == (part.text != text)


def test_the_request_is_cut_first_and_the_responses_share_the_rest(make_tokenizer):
    tokenizer = make_tokenizer("chatml")

    def held(request, *texts):
        group = Group(user("q" * request), texts, (Comparison(0, 1),))
        return ask(tokenizer, "a_or_b", group, max_length=400)

    def lost(request, *texts):
        asked = held(request, *texts)
        return (asked.prompt_lost[0], *(part.lost for part in asked.responses))

    (question, _) = held(0, "", "").questions
    room = 400 - len(held(0, "", "").prompt) - len(question)
    assert lost(room - 60, "a" * 10, "b" * 50) == (0, 0, 0)  # the request takes more than half of the room, and fits
    spare = 8
    assert lost(room - 59, "a" * 10, "b" * 50) == (1 + spare, 0, 0)
    assert lost(0, "a" * 10, "b" * room) == (0, 0, 10 + spare)  # the long text gets what the short one leaves
    half = (room - spare) // 2
    assert lost(room, "a" * room, "b" * room) == (room - (room - spare - half), *[room - half // 2] * 2)


def test_comparisons_of_equal_excerpts_are_dropped_and_counted(make_tokenizer):
    chat = ChatFormat(make_tokenizer("chatml"))
    long = "word " * 100
    group = Group(
        user("q"),
        ("same", "same", long + "1", long + "2"),
        (Comparison(0, 1), Comparison(2, 3), Comparison(0, 2, number=7)),
    )
    for name in QUESTIONS:
        for order in ("both", "shuffled"):
            questions = QuestionFormat(chat, QUESTIONS[name], order)
            ((encoded, report),) = encode_each([group], questions, max_length=320)
            assert [c.number for c in encoded.comparisons] == [7], name
            assert (report.identical, report.collapsed, report.responses_cut, report.groups_dropped) == (1, 1, 2, 0)
            assert [read.cut for read in encoded.read] == [False, False, True, True]


def test_a_conversation_is_asked_about_as_a_transcript(make_tokenizer):
    from gpmjax.data.groups import Message

    group = Group((Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "Why?")), ("a", "b"))
    tokenizer = make_tokenizer("chatml")
    assert "user: Hi\n\nassistant: Hello\n\nuser: Why?" in texts(ask(tokenizer, "yes_or_no", group), tokenizer)[0]


def test_braces_in_texts_are_kept(make_tokenizer):
    tokenizer = make_tokenizer("chatml")
    group = Group(user("{prompt} {"), ("{response}", "}{first}"))
    assert "{prompt} {\nAnswer: {response}" in texts(ask(tokenizer, "yes_or_no", group), tokenizer)[0]


def test_a_template_can_be_given_as_text(make_tokenizer):
    tokenizer = make_tokenizer("chatml")
    own = "Q {prompt} 1: {first} 2: {second}"
    assert "Q Tea or coffee? 1: Tea. 2: Coffee, always." in texts(ask(tokenizer, own), tokenizer)[0]
    assert response_format(ChatFormat(tokenizer), "", "gpm") == ChatFormat(tokenizer)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda t: question_named("maybe"), "question='maybe': must be one of 'candidates'"),
        (lambda t: question_named("{prompt} {first}"), "or a template with"),
        (lambda t: question_named("{prompt} {response"), "or a template with"),
        (
            lambda t: question_for("a_or_b", "bt"),
            "question='a_or_b': is about two responses, which does not fit kind='bt'",
        ),
        (lambda t: question_for("yes_or_no", "pairwise"), "is about one response"),
        (lambda t: verdict_tokens(("Yes",), t), "must be two"),
        (lambda t: verdict_tokens(("Yes", "No"), t), "'Yes' is 3 tokens for this tokenizer, must be 1"),
        (lambda t: verdict_tokens(("Y", "Y"), t), "must differ"),
        (lambda t: QuestionFormat(ChatFormat(t), QUESTIONS["a_or_b"], "random"), "order='random': must be one of"),
        (lambda t: ask(t, "one_or_two", max_length=20), "max_length=20: too short for the question's template"),
    ],
)
def test_errors_name_the_value_and_what_is_allowed(make_tokenizer, ask, words):
    with pytest.raises(ValueError) as refusal:
        ask(make_tokenizer("chatml"))
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


def test_verdicts_are_single_tokens(make_tokenizer):
    tokenizer = make_tokenizer("llama3")
    assert tokenizer.decode(list(verdict_tokens(("A", "B"), tokenizer))) == "AB"
