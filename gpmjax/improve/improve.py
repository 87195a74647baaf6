"""Improves a policy: config in, a policy, samples, score matrices and figures out, iteration by iteration.

    WORKDIR/iteration-t/samples/   K responses a prompt from π_t            parquet
                        scores/    K × K scores of them                     parquet
                        current/   log π_t of every token                   parquet
                        base/      log of the run's first policy (t > 1)    parquet
                        reference/ log of the reference policy, and         parquet
                        previous/  log of π_{t−1}, if the loss asks for them and they are none of the above
                        train/     metrics.jsonl, tensorboard, and checkpoints while it lasts
                        policy/    π_{t+1}, a Hugging Face directory
                        judge/     its responses and the first policy's, compared by another model
                        figures.json

Each is made once, and from what is on disk: whenever the run is killed, the same command goes on and ends alike. The
policy of an iteration is read from the directory that the one before it exported.
"""

import dataclasses
import functools
import json
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gpmjax import hub
from gpmjax.config.improve import ImproveConfig, PromptsConfig, RolloutConfig
from gpmjax.data.chat import ChatFormat
from gpmjax.data.prompts import EncodedPrompt, encode_prompts, part_of, read_prompts
from gpmjax.distributed import is_first_host
from gpmjax.improve import stages
from gpmjax.improve.batch import Example
from gpmjax.improve.contest import Judge
from gpmjax.improve.data import Batches, scored_samples, training_examples
from gpmjax.improve.figures import iteration_figures
from gpmjax.improve.record import check_record, prompts_identity, scorer_identity
from gpmjax.improve.signals import Drift, Scored, block_drift, signals
from gpmjax.improve.step import make_policy_step
from gpmjax.improve.tables import Rows
from gpmjax.judges.scoring import look_at_scorer, open_scorer
from gpmjax.sharding import make_mesh, put_whole_batch
from gpmjax.train.backbone import OpenDecoder, open_decoder
from gpmjax.train.checkpoint import Checkpoints
from gpmjax.train.flops import dense_work, hardware_flops
from gpmjax.train.loop import Loop, LoopHooks, LoopPlan, StopRequest, StopRequested
from gpmjax.train.metrics import MetricsWriter, write_json
from gpmjax.train.optimizer import count, frozen_patterns, make_optimizer, merge, schedule, split
from gpmjax.train.speed import known_peak
from gpmjax.train.state import init_state, jit_step
from gpmjax.train.workdir import owned_workdir
from gpmjax.version import __version__


def improve(config: ImproveConfig, workdir: str | Path) -> dict[str, Any]:
    """Runs ``config.iterations`` of sample → score → update, or goes on where an earlier call stopped.

    SIGTERM and SIGINT stop it between batches and return a summary with status "interrupted".

    Raises:
      ValueError, FileNotFoundError: a config, prompt, scorer or model that cannot be used; one line.
      RolloutFailed: an endpoint gave up; what was sampled is kept.
      TrainingDiverged: a loss that is not finite.
      OSError: a file could not be written, and earlier ones are kept; or another run owns ``workdir``.
    """
    config.validate()
    workdir = Path(workdir)
    with owned_workdir(workdir), StopRequest() as stop:
        run = Improvement(config, workdir, stop)
        try:
            for iteration in range(1, config.iterations + 1):
                run.iterate(iteration)
        except StopRequested:
            return run.summary("interrupted")
        return run.summary("finished")


class Improvement:
    """One call of ``improve``: what all its iterations share."""

    def __init__(self, config: ImproveConfig, workdir: Path, stop: StopRequest):
        self.config, self.workdir, self.stop = config, workdir, stop
        self._started = time.monotonic()
        self.mesh = make_mesh(**dataclasses.asdict(config.mesh))
        places = self.mesh.shape["data"] * self.mesh.shape["fsdp"]
        if config.batch // config.optimizer.accumulate % places:
            raise ValueError(
                f"config.batch={config.batch}: must be a multiple of {places * config.optimizer.accumulate} "
                f"(mesh data × fsdp = {places}, accumulate = {config.optimizer.accumulate})"
            )
        self.base = self.policy(0)
        self.chat = ChatFormat(self.base.tokenizer, template=config.prompts.template)
        self.prompts = self.read_prompts(config.prompts, "prompts")
        look_at_scorer(config.scorer, "scorer")
        if config.judge.asked:
            look_at_scorer(config.judge.scorer, "judge.scorer")
        self.judge = Judge(config, self) if config.judge.asked else None
        self._check_record()

    def policy(self, iteration: int) -> OpenDecoder:
        """What came out of an iteration; 0 is what the run began with."""
        backbone = self.config.policy
        if iteration:
            backbone = dataclasses.replace(backbone, source=str(self.folder(iteration) / "policy"), tokenizer="")
        return open_decoder(backbone, self.mesh, self.config.seed)

    def folder(self, iteration: int) -> Path:
        return self.workdir / f"iteration-{iteration}"

    def read_prompts(self, config: PromptsConfig, name: str) -> list[EncodedPrompt]:
        """A source's prompts, all of which leave room for a response; ``name`` is the config's own, "judge.prompts"."""
        room = self.base.model.config.max_positions - self.config.rollout.max_new_tokens
        if config.max_length > room:
            raise ValueError(
                f"config.{name}.max_length={config.max_length}: with rollout.max_new_tokens="
                f"{self.config.rollout.max_new_tokens} it must be at most {room}, for the policy has "
                f"{self.base.model.config.max_positions} positions"
            )
        prompts = read_prompts(config.source, config.limit)
        chat = ChatFormat(self.base.tokenizer, template=config.template)
        return encode_prompts(prompts, chat, max_length=config.max_length, too_long=config.too_long)

    def facts(self, stage: str, iteration: int) -> dict[str, str]:
        """What a stage's files say of themselves."""
        return {"gpmjax": __version__, "stage": stage, "iteration": str(iteration), "seed": str(self.config.seed)}

    def sampling_seed(self, *key: int) -> int:
        """Another one for every iteration and purpose."""
        return int(np.random.SeedSequence([self.config.seed, *key]).generate_state(1)[0])

    def _check_record(self) -> None:
        """Finished stages were made by the config that is recorded; another one would read them as its own."""
        config = self.config
        contents = {
            "policy.base": self.base.fingerprint(),
            "prompts.content": prompts_identity(self.prompts),
            "scorer.content": scorer_identity(config.scorer, "scorer"),
        }
        if self.judge:
            contents["judge.prompts.content"] = prompts_identity(self.judge.prompts)
            contents["judge.scorer.content"] = scorer_identity(config.judge.scorer, "judge.scorer")
        record = check_record(config, self.workdir, contents)
        write_json(self.workdir / "config.json", json.loads(json.dumps(dataclasses.asdict(config))))
        write_json(self.workdir / "record.json", record)

    # An iteration

    def iterate(self, iteration: int) -> None:
        """Everything that ``iteration-N/figures.json`` stands for."""
        folder, config = self.folder(iteration), self.config
        if (folder / "figures.json").exists():
            return
        logging.info("%s: iteration %d", self.workdir, iteration)
        common = dict(prompts_a_file=config.rollout.prompts_a_file, between=self.stop.raise_if_agreed)
        policy = self.policy(iteration - 1)
        sampled = stages.samples(
            folder / "samples",
            part_of(self.prompts, iteration, config.prompts.parts),
            lambda: self.open_rollout(config.rollout, policy, iteration, self.chat),
            seed=self.sampling_seed(iteration),
            facts=self.facts("samples", iteration),
            **common,
        )
        scores = stages.scores(
            folder / "scores",
            sampled,
            lambda: open_scorer(config.scorer, self.mesh, iteration),
            facts=self.facts("scores", iteration),
            **common,
        )
        forward = functools.partial(stages.logprobs, sampled=sampled, mesh=self.mesh, batch=config.batch, **common)
        current = forward(folder / "current", policy=policy, facts=self.facts("current", iteration))
        base = current
        if iteration > 1:
            base = forward(folder / "base", policy=self.base, facts=self.facts("base", iteration))
        others = self._others(iteration, forward, {iteration - 1: current, 0: base})
        scored = scored_samples(scores, current, base, **others)
        drift = self._drift(iteration, scored)
        found = signals(scored, config.loss.at(iteration), drift)
        if not (folder / "policy").exists():
            examples = training_examples(sampled, current, base, found)
            self._update(iteration, policy, examples, drift)
        figures = iteration_figures(iteration, sampled, scores, scored, found, drift)
        if self.judge:
            figures["judge"] = self.judge(iteration)
        write_json(folder / "figures.json", figures)

    def _others(self, iteration: int, forward: Callable[..., Rows], known: dict[int, Rows]) -> dict[str, Rows]:
        """What the loss needs of earlier policies' log-probabilities; ``known`` has those that are there, by who made them."""
        loss = self.config.loss
        wanted = {"reference": loss.reference_of(iteration)} if loss.reference_every else {}
        if loss.optimistic and iteration > 1:
            wanted["previous"] = iteration - 2
        for name, maker in wanted.items():
            if maker not in known:
                known[maker] = forward(
                    self.folder(iteration) / name, policy=self.policy(maker), facts=self.facts(name, iteration)
                )
        return {name: known[maker] for name, maker in wanted.items()}

    def open_rollout(self, config: RolloutConfig, policy: OpenDecoder, number: int, chat: ChatFormat) -> stages.Rollout:
        """The policy that iteration ``number`` samples from, on these devices, or behind the endpoint under its name there."""
        if not config.endpoint:
            return stages.local_rollout(config, policy, chat, self.mesh)
        return stages.endpoint_rollout(config, chat, config.model_of(number))

    def _drift(self, iteration: int, scored: Scored) -> Drift | None:
        """GPRL's monitor: this iteration's blocks against the first one's."""
        if scored.embedding is None:
            return None
        first = self.folder(1) / "shares.json"
        initial = np.array(json.loads(first.read_text(encoding="utf-8")), np.float32) if iteration > 1 else None
        drift = block_drift(scored, initial)
        if iteration == 1:
            write_json(first, drift.shares.tolist())
        return drift

    def _update(self, iteration: int, policy: OpenDecoder, examples: list[Example], drift: Drift | None) -> None:
        """Fits π_{t+1} from π_t and exports it."""
        config, folder = self.config, self.folder(iteration)
        if not examples:
            raise ValueError(f"{folder}: every response ties with its siblings, there is nothing to learn from")
        batches = Batches(examples, config.batch, self.sampling_seed(iteration, 1))
        steps = config.epochs * batches.steps_an_epoch
        optimizer = make_optimizer(config.optimizer, steps)
        trainable, frozen = split({"decoder": policy.load()}, frozen_patterns(config.policy))
        logging.info("%s: %d parameters train, %d are frozen", folder, count(trainable), count(frozen))
        state = init_state(trainable, optimizer, self.mesh)
        tightening = drift.tightening if drift and config.loss.method == "gprl" else 1.0
        step = make_policy_step(
            policy.model,
            optimizer,
            config.loss.at(iteration),
            accumulate=config.optimizer.accumulate,
            tightening=tightening,
        )
        step = jit_step(step, state, self.mesh)
        with Checkpoints(folder / "train" / "checkpoints", config.checkpoint) as checkpoints:
            state = checkpoints.resume(state, self.mesh) or state
            writer = MetricsWriter(folder / "train", resumed_step=int(state.step))
            hooks = LoopHooks(
                batch=batches,
                put=functools.partial(put_whole_batch, self.mesh),
                step=lambda state, batch: step(state, frozen, batch),
                units="tokens",
                rows=lambda batch: batch.row,
                name_rows=self._name_prompts,
                evaluate=lambda state: {},
                save=lambda state, figures: checkpoints.save(state, {"iteration": iteration}),
            )
            run = dense_work(policy.model.config, batches.shape.rows, batches.shape.tokens, 0)
            run = run._replace(predicted=float(batches.shape.rows * batches.shape.responses * batches.shape.length))
            plan = LoopPlan(
                steps,
                config.log_every,
                eval_every=0,
                save_every=config.checkpoint.every,
                learning_rate=schedule(config.optimizer, steps),
                shown=("loss", "kl_k1"),
                hardware_flops=hardware_flops(policy.model.config, policy.model.runtime, trainable, frozen, run),
                peak_flops=known_peak(),
            )
            try:
                state, status = Loop(hooks, plan, writer, self.stop).run(state)
                checkpoints.wait()
            finally:
                writer.close()
        if status == "interrupted":
            raise StopRequested
        hub.save_decoder(
            folder / "policy",
            merge(state.params, frozen),
            policy.model.config,
            policy.tokenizer,
            lora=policy.model.runtime.lora,
            dtype=config.export_dtype,
        )
        if is_first_host():
            # The policy is out: its optimiser's moments, several times its size, are of no more use.
            shutil.rmtree(folder / "train" / "checkpoints")

    def _name_prompts(self, rows: np.ndarray) -> str:
        where = {prompt.number: prompt.prompt.where for prompt in self.prompts}
        shown = ", ".join(where[int(row)] for row in rows[:5])
        return shown + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")

    def summary(self, status: str) -> dict[str, Any]:
        """Every iteration's figures so far, written to ``summary.json`` and returned."""
        files = [self.folder(n) / "figures.json" for n in range(1, self.config.iterations + 1)]
        done = [json.loads(path.read_text(encoding="utf-8")) for path in files if path.exists()]
        device = jax.devices()[0]
        figures = {
            "status": status,
            "step": len(done),
            "iterations": done,
            "prompts": len(self.prompts),
            "seconds": round(time.monotonic() - self._started, 1),
            "policy": str(self.folder(len(done)) / "policy") if done else None,
            "device": {"kind": device.device_kind, "platform": device.platform, "count": jax.device_count()},
            "config": dataclasses.asdict(self.config),
        }
        return write_json(self.workdir / "summary.json", figures)
