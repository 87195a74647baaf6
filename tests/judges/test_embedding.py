"""A judge's matrix holds what the model says of each pair, whatever shares its batch."""

import numpy as np
import pytest

from gpmjax.data.assemble import BatchShape, assemble
from gpmjax.data.encode import encode_each
from gpmjax.data.group_files import read_groups
from gpmjax.data.groups import Comparison, Group, user
from gpmjax.evals.comparisons import score_batches
from gpmjax.evals.held_out import held_out
from gpmjax.judges import readout
from gpmjax.judges.embedding import EmbeddingJudge
from gpmjax.judges.forward import make_scorer
from gpmjax.judges.judge import group_record, record_scores
from gpmjax.judges.readout import PackedReader
from gpmjax.sharding import make_mesh


@pytest.fixture(scope="module")
def scorer(model_and_params):
    return make_scorer(*model_and_params, make_mesh())


@pytest.fixture(scope="module")
def path(pairs, write_rows):
    return write_rows(pairs)


def judge(scorer, chat, **changes):
    return EmbeddingJudge(PackedReader(scorer), chat, {}, **({"max_length": 128} | changes))


def test_scores_are_those_of_the_labelled_path(scorer, chat, path):
    groups = read_groups(path)
    verdicts = list(judge(scorer, chat)(groups))
    data = held_out(path, chat, max_length=128, rows_per_batch=8)
    expected = {
        int(r): s for part in score_batches(scorer, data.batches()) for r, s in zip(part.row, part.score, strict=True)
    }
    for group, verdict in zip(groups, verdicts, strict=True):
        (comparison,) = group.comparisons
        assert verdict.scores[0, 1] == pytest.approx(expected[comparison.number], abs=2e-5)
        assert np.array_equal(verdict.scores, -verdict.scores.T)
        assert len(verdict.tokens) == 2 and verdict.forward_tokens > verdict.tokens.sum()


def test_neither_chunks_nor_pieces_nor_company_move_a_verdict(scorer, chat, path, monkeypatch):
    groups = read_groups(path)
    expected = [verdict.scores for verdict in judge(scorer, chat)(groups)]
    monkeypatch.setattr(readout, "CHUNK", 2)
    monkeypatch.setattr(readout, "SHORT_ROW", 1)  # a response a row
    for verdict, scores in zip(judge(scorer, chat)(groups[::-1]), expected[::-1], strict=True):
        assert verdict.scores == pytest.approx(scores, abs=2e-5)


def test_equal_texts_and_cut_ones_are_judged_too(scorer, chat, write_rows):
    rows = [
        {"prompt": "p", "chosen": "same", "rejected": "same"},
        {"prompt": "p", "chosen": "word " * 200, "rejected": "short"},
    ]
    same, cut = judge(scorer, chat)(read_groups(write_rows(rows)))
    assert same.scores[0, 1] == 0.0 and not same.truncated
    assert cut.truncated


@pytest.mark.parametrize("slots", [1024, 1])
def test_a_prompt_cut_differently_beside_each_response_moves_no_score(scorer, chat, monkeypatch, slots):
    """Every pair of a group scores as it does alone, and as the labelled path does."""
    monkeypatch.setattr(readout, "SHORT_ROW", slots)  # 1: a response a row
    # A short window: what the gate's token sees, 12 tokens back, differs with the cut.
    prompt, texts = user("red apple " * 9), ("yes", "why? " * 5, "no " * 9 + "!", "42", "red " * 30)
    labels = tuple(Comparison(i, j, number=8 * i + j) for i, j in ((0, 1), (2, 1), (3, 4), (0, 3), (1, 0)))
    group = Group(prompt, texts, labels, where="f:1")
    ((encoded, report),) = encode_each([group], chat, max_length=24)
    assert len(set(encoded.own_prompt)) > 2 and report.sequences_cut
    (verdict,) = judge(scorer, chat, max_length=24)([group])
    assert np.array_equal(verdict.scores, -verdict.scores.T) and verdict.truncated
    alone = judge(scorer, chat, max_length=24)(
        [Group(prompt, (texts[i], texts[j])) for i in range(5) for j in range(i)]
    )
    pairs = ((i, j) for i in range(5) for j in range(i))
    for (i, j), pair in zip(pairs, alone, strict=True):
        assert verdict.scores[i, j] == pytest.approx(pair.scores[0, 1], abs=2e-5)
    rows = [[encoded]] + [[]] * 7  # one a device
    (scored,) = score_batches(scorer, [assemble(rows, BatchShape(8, encoded.size[0], 5, 5))])
    assert {int(row): score for row, score in zip(scored.row, scored.score, strict=True)} == {
        c.number: pytest.approx(verdict.scores[c.chosen, c.rejected], abs=2e-5) for c in labels
    }


def test_records_read_back(scorer, chat, path):
    groups = read_groups(path)
    (verdict,) = judge(scorer, chat)(groups[:1])
    record = group_record(groups[0], verdict)
    assert np.array_equal(record_scores(record), verdict.scores)
    assert record["comparisons"] == [[0, 1, 1.0]] and record["source"] == f"{path}:1"
    with pytest.raises(ValueError, match=f"{path}:1: a score of the model is not finite"):
        group_record(groups[0], verdict._replace(scores=verdict.scores * np.nan))
