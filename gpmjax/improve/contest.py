"""`Contest` measures how often a policy wins against the one that the run began with; the judge did not train it.

Both policies answer the same prompts, K times each, and every answer of one is compared with every answer of the other.
Where a server holds the policies (config.rollout.endpoint), it answers here too: the first policy as iteration 1, the
policy that iteration t made as iteration t + 1. If the server does not hold that policy yet, the run stops with the
server's words, and goes on when it does. The scorer that trains the policy compares them too: where it sees far more
progress than the judge, the policy has learnt the scorer and not the task.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from gpmjax.config.improve import ImproveConfig
from gpmjax.data.chat import ChatFormat
from gpmjax.improve import stages
from gpmjax.improve.policy_run import PolicyRun
from gpmjax.improve.tables import stacked
from gpmjax.judges.open import open_scorer
from gpmjax.train.backbone import OpenDecoder


class Contest:
    """Compares each iteration's policy with the first one, on the judge's own prompts."""

    def __init__(self, config: ImproveConfig, run: PolicyRun):
        self._run, self._judge = run, config.judge
        # Responses are drawn here as in training, but for their number.
        self._rollout = dataclasses.replace(config.rollout, responses=config.judge.responses)
        self.prompts = run.read_prompts(config.judge.prompts, "judge.prompts")
        self._chat = ChatFormat(run.base.tokenizer, template=config.judge.prompts.template)
        self._scorers = {"judge": config.judge.scorer, "trainer": config.scorer}

    def __call__(self, iteration: int) -> dict[str, Any]:
        """Figures of the policy that an iteration made, by both scorers; everything they come from is kept beside
        them."""
        folder, run = self._run.folder(iteration) / "judge", self._run
        before = self._samples(run.workdir / "base" / "samples", run.base, 0)
        after = self._samples(folder / "samples", run.policy(iteration), iteration)
        figures: dict[str, Any] = {"prompts": len(self.prompts), "responses": self._judge.responses}
        for name, scorer in self._scorers.items():
            scores = stages.scores(
                folder / f"scores-{name}",
                after,
                lambda scorer=scorer: open_scorer(scorer, run.mesh, answers=run.answers),
                prompts_a_file=self._rollout.prompts_a_file,
                facts=run.facts(f"judge scores by {scorer.label}", iteration),
                between=run.stop.raise_if_agreed,
                opponents=before,
            )
            figures[name] = win_rates(stacked(scores["scores"]), scores["tau"][0].as_py())
        figures["length"] = {"policy": float(after.lengths.mean()), "base": float(before.lengths.mean())}
        return figures

    def _samples(self, directory: Path, policy: OpenDecoder, iteration: int) -> stages.Samples:
        run = self._run
        return stages.samples(
            directory,
            self.prompts,
            # Under the name by which the next iteration samples from it.
            lambda: run.open_rollout(self._rollout, policy, iteration + 1, self._chat),
            seed=run.sampling_seed(iteration, 2),
            prompts_a_file=self._rollout.prompts_a_file,
            facts=run.facts("judge samples", iteration),
            between=run.stop.raise_if_agreed,
        )


def win_rates(scores: np.ndarray, tau: float) -> dict[str, float | None]:
    """How often the first half of the responses is preferred to the second: by mean probability, and by majority.

    ``scores`` are [N, K, K], not divided by ``tau``. ``standard_error`` is that of ``win_rate`` over prompts; None of a
    single one.

    >>> scores = np.array([[[0.0, 2.0], [-2.0, 0.0]]], np.float32)
    >>> win_rates(scores, tau=1.0)["preferred"]
    1.0
    """
    half = scores.shape[1] // 2
    between = scores[:, :half, half:].astype(np.float64) / tau
    by_prompt = (0.5 + 0.5 * np.tanh(between / 2)).mean(axis=(1, 2))  # σ, without overflow
    error = by_prompt.std(ddof=1) / np.sqrt(len(by_prompt)) if len(by_prompt) > 1 else None
    preferred = (0.5 + 0.5 * np.sign(between)).mean()
    return {
        "win_rate": float(by_prompt.mean()),
        "standard_error": error if error is None else float(error),
        "preferred": float(preferred),
    }
