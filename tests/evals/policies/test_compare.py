"""Comparison of policies: figures, missing rows, resumption and tables."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy.special import expit, logit

from gpmjax.evals.policies.compare import ComparePlan, compare, records_path
from gpmjax.judges.chat import ChatJudge
from gpmjax.judges.chat_prompts import PAIR_PROMPTS
from gpmjax.judges.judge import Verdict
from gpmjax.reports.terminal_tables.policies import grade_table, win_table

TEXTS = ["x" * n for n in range(1, 13)]


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr("gpmjax.evals.intervals.RESAMPLES", 20)


class LengthJudge:
    """Prefers the longer response by one nat per character; τ = ½. It is interrupted after ``patience`` groups."""

    def __init__(self, patience=1000):
        self.identity, self.patience, self.seen = {"judge": "length"}, patience, []

    def __call__(self, groups, pairs="labelled"):
        for group in groups:
            if len(self.seen) == self.patience:
                raise KeyboardInterrupt
            self.seen.append(group)
            lengths = np.array([len(text) for text in group.responses], np.float64)
            yield Verdict((lengths[:, None] - lengths) / 2, 0.5, lengths.astype(int), 0)


def test_figures_are_those_computed_by_hand(outputs, tmp_path, tokenizer_directory):
    policy = outputs("gpm.json", "me/gpm", TEXTS)
    reference = outputs(
        "base.json", "base", [text + "y" * (n % 3) for n, text in enumerate(TEXTS)], dataset=["a", "b"] * 6
    )
    plan = ComparePlan((policy, reference), reference, tokenizer=str(tokenizer_directory))
    found, itself = compare(plan, LengthJudge(), tmp_path / "c.json")
    shares = expit(-(np.arange(12) % 3))
    assert found["win_rate"]["win_rate"] == pytest.approx(100 * shares.mean())
    assert (found["win_rate"]["wins"], found["win_rate"]["ties"], found["win_rate"]["losses"]) == (0, 4, 8)
    assert found["by"]["dataset"]["a"]["win_rate"] == pytest.approx(100 * shares[::2].mean())
    assert found["lengths"]["characters"]["policy"]["mean"] == np.mean(range(1, 13))
    # This tokenizer's tokens are bytes.
    assert found["lengths"]["tokens"]["reference"]["mean"] == found["lengths"]["characters"]["reference"]["mean"] == 7.5
    assert itself["win_rate"]["win_rate"] == itself["length_controlled"]["win_rate"] == 50.0
    records = [json.loads(line) for line in records_path(tmp_path / "c.json", "me/gpm").read_text().splitlines()]
    assert [record["source"] for record in records] == [f"{policy}: row {n}" for n in range(1, 13)]
    assert records[1]["scores"] == [[0, -0.5], [0.5, 0]] and records[1]["characters"] == [2, 3]


def test_length_is_controlled_for(outputs, tmp_path):
    draw = np.random.default_rng(0)
    texts = ["x" * int(n) for n in draw.integers(20, 60, 80)]
    shorter = ["y" * int(n) for n in draw.integers(10, 40, 80)]
    plan = ComparePlan((outputs("a.json", "a", texts),), outputs("b.json", "b", shorter))
    (found,) = compare(plan, LengthJudge(), tmp_path / "c.json")
    assert found["win_rate"]["win_rate"] > 80
    assert found["length_controlled"]["win_rate"] < found["win_rate"]["win_rate"] - 20


def test_an_interrupted_comparison_is_resumed(outputs, tmp_path):
    plan = ComparePlan((outputs("a.json", "a", TEXTS),), outputs("b.json", "b", TEXTS[::-1]))
    (whole,) = compare(plan, LengthJudge(), tmp_path / "whole.json")
    with pytest.raises(KeyboardInterrupt):
        compare(plan, LengthJudge(patience=5), tmp_path / "c.json")
    judge = LengthJudge()
    assert compare(plan, judge, tmp_path / "c.json") == [whole] and len(judge.seen) == 7
    # Records of other answers are not kept.
    changed = ComparePlan((outputs("a.json", "a", TEXTS[::-1]),), plan.reference)
    judge = LengthJudge()
    compare(changed, judge, tmp_path / "c.json")
    assert len(judge.seen) == 12


def test_a_server_judges_and_its_unreadable_verdicts_are_named(
    http_server, completion, replying, sides, open_endpoint, outputs, tmp_path
):
    def say(prompt):
        first, second = sides(prompt)
        return completion(
            "I cannot tell." if "x" * 12 in (first, second) else "A" if len(first) >= len(second) else "B"
        )

    http_server.script = [lambda handler, body: handler.reply(503, "busy"), replying(say)]
    policy = outputs("a.jsonl", "a", TEXTS)
    with open(policy, "a") as file:
        file.write('{"instruction": "instruction 12", "generator": "a"}\n')
        file.write('{"instruction": "new", "output": "", "generator": "a"}\n')
    reference = outputs("b.json", "b", ["yy"] * 14)
    plan = ComparePlan((policy,), reference)
    judge = ChatJudge(open_endpoint(), PAIR_PROMPTS["letter"])
    (found,) = compare(plan, judge, tmp_path / "c.json")
    # One answer is shorter, nine are longer, and one is of equal length, where A always wins, so it is even.
    assert (found["win_rate"]["wins"], found["win_rate"]["ties"], found["win_rate"]["losses"]) == (9, 1, 1)
    assert found["win_rate"]["win_rate"] == pytest.approx(100 * 9.5 / 11)
    rows = found["rows"]
    assert (rows["read"], rows["compared"]) == (14, 11)
    assert rows["malformed"] == {"count": 1, "at": [f"{policy}:13: field 'output': missing"]}
    assert rows["unanswered"]["at"] == [f"{reference}: row 13", f"{reference}: row 14"]
    assert rows["without_reference"]["at"] == [f"{policy}:14"] and rows["unreadable_verdicts"]["at"] == [f"{policy}:12"]
    assert len(http_server.requests) == 25 and judge.endpoint.meter.total.answers == 24
    again = ChatJudge(open_endpoint(), PAIR_PROMPTS["letter"])
    assert compare(plan, again, tmp_path / "c.json") == [found] and len(http_server.requests) == 25
    assert again.endpoint.meter.total == judge.endpoint.meter.total and again.endpoint.meter.asked.answers == 0


def test_difficulty_follows_the_references_order(outputs, tmp_path):
    draw = np.random.default_rng(0)
    difficulty = draw.normal(size=60).round(3)
    path = tmp_path / "difficulty.csv"
    path.write_text("index,instruction_difficulty\n" + "".join(f"{n},{value}\n" for n, value in enumerate(difficulty)))

    class Judge(LengthJudge):
        def __call__(self, groups, pairs="labelled"):
            for group in groups:
                score = 0.5 + 1.5 * difficulty[int(group.prompt[0].content.split()[1])]
                yield Verdict(np.array([[0.0, score], [-score, 0.0]]), 1.0, np.zeros(2, int), 0)

    reference = outputs("b.json", "b", ["y" * 9] * 60)
    policy = Path(outputs("a.json", "a", ["x" * int(n) for n in draw.integers(5, 15, 60)]))
    policy.write_text(json.dumps(json.loads(policy.read_text())[::-1][:50]))
    (found,) = compare(ComparePlan((str(policy),), reference, str(path)), Judge(), tmp_path / "c.json")
    assert found["length_controlled"]["coefficients"]["difficulty"] == pytest.approx(1.5, abs=0.1)
    assert logit(found["win_rate"]["win_rate"] / 100) > 0


def test_repeated_generators_and_unreadable_verdicts_are_refused(
    http_server, completion, replying, open_endpoint, outputs, tmp_path
):
    a, b = outputs("a.json", "a", TEXTS), outputs("b.json", "a", TEXTS)
    with pytest.raises(ValueError, match="b.json: generator 'a' is that of another file of answers"):
        compare(ComparePlan((a, b), a), LengthJudge(), tmp_path / "c.json")
    http_server.script = [replying(lambda prompt: completion("Hm."))]
    with pytest.raises(ValueError, match="a.json: row 1: none of the 12 verdicts can be read"):
        compare(ComparePlan((a,), a), ChatJudge(open_endpoint(), PAIR_PROMPTS["letter"]), tmp_path / "c.json")


def test_tables_count_what_is_missing(outputs, tmp_path):
    reference = outputs("b.json", "b", TEXTS)
    found = compare(ComparePlan((outputs("a.json", "[a]", TEXTS[:5]),), reference), LengthJudge(), tmp_path / "c.json")
    rows = {"ratings": 0, "malformed": {"count": 2, "at": []}}
    graded = {"model": "m", "first_turn": None, "second_turn": None, "average": None, "rows": rows}
    console = Console(width=160, file=io.StringIO())
    console.print(win_table(found, "b"), grade_table([graded]))
    text = console.file.getvalue()
    assert "[a]" in text and "50.00" in text and "7 unanswered" in text and "2 malformed" in text
    # The length-controlled model needs more than five verdicts.
    assert found[0]["length_controlled"] is None and text.count("–") >= 8
    assert "no LC for [a]: 5 readable verdicts, it needs 10" in " ".join(text.split())


def test_the_table_shows_the_share_of_answers_won_beside_the_mean_probability(outputs, tmp_path, monkeypatch):
    monkeypatch.setattr("gpmjax.evals.intervals.RESAMPLES", 5)
    reference = outputs("b.json", "b", TEXTS)
    (found,) = compare(ComparePlan((outputs("a.json", "a", TEXTS),), reference), LengthJudge(), tmp_path / "c.json")
    found["win_rate"] |= {"win_rate": 61.25, "discrete_win_rate": 87.5}
    found["length_controlled"] |= {"standard_error": 1.23}
    console = Console(width=160, file=io.StringIO())
    console.print(win_table([found], "b"))
    text = console.file.getvalue()
    assert "discrete" in text and text.index("61.25") < text.index("87.50") < text.index("1.23") and "no LC" not in text
