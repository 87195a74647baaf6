"""A judge's matrix holds what the model says of each pair, whatever shares its batch."""

import numpy as np
import pytest

from gpmjax.data.records import read_groups
from gpmjax.evals import readout
from gpmjax.evals.embedding_judge import EmbeddingJudge
from gpmjax.evals.held_out import held_out
from gpmjax.evals.judging import group_record, record_scores
from gpmjax.evals.preference import score_batches
from gpmjax.evals.protocol import make_scorer
from gpmjax.evals.readout import PackedReader
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
    expected = {int(r): s for part in score_batches(scorer, data.batches()) for r, s in zip(part.row, part.score, strict=True)}
    for group, verdict in zip(groups, verdicts, strict=True):
        (comparison,) = group.comparisons
        assert verdict.scores[0, 1] == pytest.approx(expected[comparison.row], abs=2e-5)
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


def test_records_read_back(scorer, chat, path):
    groups = read_groups(path)
    (verdict,) = judge(scorer, chat)(groups[:1])
    record = group_record(groups[0], verdict)
    assert np.array_equal(record_scores(record), verdict.scores)
    assert record["comparisons"] == [[0, 1, 1.0]] and record["source"] == f"{path}:1"
    with pytest.raises(ValueError, match=f"{path}:1: a score of the model is not finite"):
        group_record(groups[0], verdict._replace(scores=verdict.scores * np.nan))
