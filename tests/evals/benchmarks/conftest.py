"""Judges with known verdicts, and files of rows."""

import json

import numpy as np
import pytest

from gpmjax.judges.judge import Verdict


class KnownJudge:
    """A judge with the scores ``matrix(group)`` [K, K] and raw scores ``asked(group)``.

    It raises KeyboardInterrupt after ``stop_after`` verdicts.
    """

    def __init__(self, matrix, stop_after=None, asked=lambda group: None, **identity):
        self.matrix, self.stop_after, self.raw = matrix, stop_after, asked
        self.identity = {"model": "known", "max_length": 64, "template": "chat"} | identity
        self.asked = []

    def __call__(self, groups, pairs="labelled"):
        for group in groups:
            if len(self.asked) == self.stop_after:
                raise KeyboardInterrupt
            self.asked.append((group.where, pairs))
            scores = np.asarray(self.matrix(group), np.float64)
            tokens = np.array([len(text.split()) for text in group.responses])
            yield Verdict(scores, 1.0, tokens, int(tokens.sum()), truncated=tokens.max() > 5, asked=self.raw(group))


@pytest.fixture(scope="session")
def known_judge():
    """Function group → matrix, to a KnownJudge."""
    return KnownJudge


@pytest.fixture(scope="session")
def reward_judge():
    """Maker of a Bradley–Terry KnownJudge, for which a response's reward is the number at its end."""

    def rewards(group):
        r = np.array([float(text.split()[-1]) for text in group.responses])
        return r[:, None] - r[None, :]

    return lambda **changes: KnownJudge(rewards, **changes)


@pytest.fixture
def rows_file(tmp_path):
    """Writer of rows into a new file of JSON lines, which returns its path."""

    def write(rows, name="rows.jsonl"):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(tmp_path / name)

    return write
