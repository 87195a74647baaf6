"""Verdicts behind rationales (GenRM-CoT): M rationales are sampled of each question, a verdict is read behind each.

    question | "Let's verify step by step." | rationale m | "Verdict (Yes or No):" | ← log-odds of Yes over No

The M verdicts of a question become one number: the log-odds of their mean probability, or those of the majority's
share. Source: Zhang et al. 2024, arXiv 2408.15240, section 3.2, where the mean is called majority voting.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from scipy import special

from gpmjax.arrays import Array
from gpmjax.config.judge import JudgeConfig
from gpmjax.data.encode import EncodedGroup
from gpmjax.judges.readout import CHUNK, GroupReading, Output, Reader
from gpmjax.models.scores import PairwiseOutput, PreferenceOutput
from gpmjax.sampling.generate import TokenSamples

_SURE = 1e-6
"""Mean probabilities are kept this far from 0 and 1, so that log-odds stay finite."""

Draw = Callable[[Sequence[np.ndarray], Sequence[int]], TokenSamples]
"""(prompts as token ids, a number that names each) → M samples of each."""


def rationales_identity(config: JudgeConfig) -> dict[str, Any]:
    """All of a config that could move a verdict behind rationales; the names are those of records from before
    `JudgeConfig`."""
    return {
        "rationales": config.rationales,
        "max_new_tokens": config.rationale_tokens,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "vote": config.vote,
        "seed": config.rationale_seed,
        "opening": config.rationale_opening,
        "closing": config.rationale_closing,
    }


@dataclasses.dataclass(frozen=True)
class RationaleReader:
    """A `readout.Reader` that samples rationales before it reads; ``read`` has a verdict head on the same parameters.

    A question's rationales depend on its tokens and the seed, not on what else is asked.
    """

    read: Reader
    draw: Draw
    tokenizer: Any
    config: JudgeConfig
    verdicts: tuple[str, ...]

    def __call__(self, groups: Sequence[EncodedGroup]) -> Iterator[GroupReading]:
        for start in range(0, len(groups), CHUNK):
            yield from self._read_chunk(groups[start : start + CHUNK])

    def _read_chunk(self, groups: Sequence[EncodedGroup]) -> Iterator[GroupReading]:
        questions = [np.concatenate([group.prompt, question]) for group in groups for question in group.responses]
        thoughts, sampled = self._think(questions)
        answers = iter(zip(questions, self.read(thoughts), sampled, strict=True))
        for group in groups:
            values, masses, tokens = [], [], 0
            output: Any = None
            for _ in group.responses:
                question, (output, read, _), drawn = next(answers)
                odds: Any = output.value if isinstance(output, PairwiseOutput) else output.embedding[:, 0]
                values.append(pooled_verdicts(odds, self.config.vote))
                mass: Any = output.mass
                masses.append(np.mean(mass))
                tokens += read + len(question) + drawn
            yield GroupReading(_output(type(output), np.array(values), output.tau, np.array(masses)), tokens)

    def _think(self, questions: Sequence[np.ndarray]) -> tuple[list[EncodedGroup], list[int]]:
        """Each question as a group whose responses are its rationales, closed; and how many tokens were sampled for
        it."""
        yes, no = self.verdicts
        opening, closing = (
            np.array(self.tokenizer(text, add_special_tokens=False)["input_ids"], np.int32)
            for text in (self.config.rationale_opening, self.config.rationale_closing.format(yes=yes, no=no))
        )
        opened = [np.concatenate([question, opening]) for question in questions]
        names = [int.from_bytes(hashlib.sha256(tokens.tobytes()).digest()[:4], "little") for tokens in opened]
        drawn = self.draw(opened, names)
        # A stop token would end the text before its verdict.
        lengths = drawn.lengths - drawn.stopped
        groups = []
        for n, tokens in enumerate(opened):
            rationales = zip(drawn.tokens[n], lengths[n], strict=True)
            responses = tuple(np.concatenate([text[:length], closing]) for text, length in rationales)
            groups.append(EncodedGroup(tokens, len(tokens) - 1, responses, ()))
        return groups, drawn.lengths.sum(axis=1).tolist()


def pooled_verdicts(log_odds: np.ndarray, vote: str) -> float:
    """One log-odds of M verdicts [M].

    >>> round(pooled_verdicts(np.array([2.0, -2.0, 2.0]), "majority"), 3)  # 2 of 3, each side with half a vote more
    0.511
    >>> abs(round(pooled_verdicts(np.array([2.0, -2.0]), "mean"), 6))
    0.0
    """
    if vote == "mean":
        return float(special.logit(np.clip(special.expit(log_odds.astype(np.float64)).mean(), _SURE, 1 - _SURE)))
    votes = np.sum(0.5 + 0.5 * np.sign(log_odds))
    return float(special.logit((votes + 0.5) / (len(log_odds) + 1)))


def _output(kind: type, values: np.ndarray, tau: Array, masses: np.ndarray) -> Output:
    if kind is PairwiseOutput:
        return PairwiseOutput(values, tau, masses)
    return PreferenceOutput(values[:, None], None, tau, masses, reward=values)
