"""Improves a policy: config in, a policy, samples, score matrices and figures out, iteration by iteration.

    WORKDIR/iteration-t/samples/   K responses a prompt from π_t            parquet
                        scores/    K × K scores of them                     parquet
                        current/   log π_t of every token                   parquet
                        base/      log of the run's first policy (t > 1)    parquet
                        reference/ log of the reference policy, and         parquet
                        previous/  log of π_{t−1}, if the loss asks for it and no other directory has it
                        train/     metrics.jsonl, tensorboard, and checkpoints while it lasts
                        policy/    π_{t+1}, a Hugging Face directory
                        judge/     responses of π_{t+1} and of the first policy, compared by another model
                        figures.json

Each is made once, from what is on disk: whenever the run is killed, the same command goes on and ends alike. An
iteration reads its policy from the directory that the iteration before it exported.
"""

import dataclasses
import functools
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gpmjax import hub
from gpmjax.config.improve import ImproveConfig
from gpmjax.data.chat import ChatFormat
from gpmjax.data.prompts import part_of
from gpmjax.distributed import is_first_host
from gpmjax.improve import stages
from gpmjax.improve.batch import Example
from gpmjax.improve.contest import Contest
from gpmjax.improve.data import Batches, scored_samples, training_examples
from gpmjax.improve.figures import iteration_figures
from gpmjax.improve.policy_run import PolicyRun
from gpmjax.improve.record import check_record, prompts_identity, scorer_identity
from gpmjax.improve.signals import Drift, Scored, block_drift, signals
from gpmjax.improve.step import make_policy_step
from gpmjax.improve.tables import Ragged
from gpmjax.judges.open import look_at_scorer, open_scorer
from gpmjax.sharding import put_whole_batch
from gpmjax.train.backbone import OpenDecoder
from gpmjax.train.checkpoint import Checkpoints
from gpmjax.train.flops import dense_work
from gpmjax.train.loop import StopRequest, StopRequested
from gpmjax.train.metrics import write_json_on_first_host
from gpmjax.train.optimizer import frozen_patterns
from gpmjax.train.run import Summary, TrainingTask, open_mesh, train
from gpmjax.train.workdir import owned_workdir


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
        summary = Summary(workdir, config)
        mesh = open_mesh(config.mesh, "batch", config.batch, config.optimizer.accumulate)
        run = PolicyRun.begin(config, workdir, mesh, stop)
        look_at_scorer(config.scorer, "scorer")
        judge = None
        if config.judge.asked:
            look_at_scorer(config.judge.scorer, "judge.scorer")
            judge = Contest(config, run)
        record_run(run, judge)
        status = "finished"
        try:
            for iteration in range(1, config.iterations + 1):
                iterate(run, judge, iteration)
        except StopRequested:
            status = "interrupted"
        files = [run.folder(iteration) / "figures.json" for iteration in range(1, config.iterations + 1)]
        done = [json.loads(path.read_text(encoding="utf-8")) for path in files if path.exists()]
        policy = str(run.folder(len(done)) / "policy") if done else None
        summary.add(step=len(done), iterations=done, prompts=len(run.prompts), policy=policy)
        return summary.write(status)


def record_run(run: PolicyRun, judge: Contest | None) -> None:
    """Writes config.json and record.json.

    Raises:
      ValueError: finished stages were made by another config than the run's, which would take them for its own.
    """
    config, workdir = run.config, run.workdir
    contents = {
        "policy.base": run.base.fingerprint(),
        "prompts.content": prompts_identity(run.prompts),
        "scorer.content": scorer_identity(config.scorer, "scorer"),
    }
    if judge:
        contents["judge.prompts.content"] = prompts_identity(judge.prompts)
        contents["judge.scorer.content"] = scorer_identity(config.judge.scorer, "judge.scorer")
    record = check_record(config, workdir, contents)
    write_json_on_first_host(workdir / "config.json", json.loads(json.dumps(dataclasses.asdict(config))))
    write_json_on_first_host(workdir / "record.json", record)


def iterate(run: PolicyRun, judge: Contest | None, iteration: int) -> None:
    """One iteration: everything that leads to ``iteration-N/figures.json``. Does nothing where that file is there."""
    folder, config = run.folder(iteration), run.config
    if (folder / "figures.json").exists():
        return
    logging.info("%s: iteration %d", run.workdir, iteration)
    common = dict(prompts_a_file=config.rollout.prompts_a_file, between=run.stop.raise_if_agreed)
    policy, chat = run.policy(iteration - 1), ChatFormat(run.base.tokenizer, template=config.prompts.template)
    sampled = stages.samples(
        folder / "samples",
        part_of(run.prompts, iteration, config.prompts.parts),
        lambda: run.open_rollout(config.rollout, policy, iteration, chat),
        seed=run.sampling_seed(iteration),
        facts=run.facts("samples", iteration),
        **common,
    )
    scores = stages.scores(
        folder / "scores",
        sampled,
        lambda: open_scorer(config.scorer, run.mesh, iteration, run.answers),
        facts=run.facts("scores", iteration),
        **common,
    )
    logprobs = all_logprobs(
        run,
        iteration,
        functools.partial(stages.logprobs, sampled=sampled, mesh=run.mesh, batch=config.batch, **common),
    )
    scored = scored_samples(scores, **logprobs)
    drift = gprl_drift(run, iteration, scored)
    found = signals(scored, config.loss.at(iteration), drift)
    if not (folder / "policy").exists():
        examples = training_examples(sampled, logprobs["current"], logprobs["base"], found)
        update_policy(run, iteration, policy, examples, drift)
    figures = iteration_figures(iteration, sampled, scores, scored, found, drift)
    if judge:
        figures["judge"] = judge(iteration)
    write_json_on_first_host(folder / "figures.json", figures)


def all_logprobs(run: PolicyRun, iteration: int, forward: Callable[..., Ragged]) -> dict[str, Ragged]:
    """log π of the iteration's samples under every policy that the loss reads, by role: "current", "base" and so on.

    A policy that has two roles is asked once.

    Args:
      forward: (directory, policy=, facts=) → log π of the samples under that policy.
    """
    loss = run.config.loss
    makers = {"current": iteration - 1, "base": 0}
    if loss.reference_every:
        makers["reference"] = loss.reference_of(iteration)
    if loss.optimistic and iteration > 1:
        makers["previous"] = iteration - 2
    known: dict[int, Ragged] = {}
    for role, maker in makers.items():
        if maker not in known:
            directory, facts = run.folder(iteration) / role, run.facts(role, iteration)
            known[maker] = forward(directory, policy=run.policy(maker), facts=facts)
    return {role: known[maker] for role, maker in makers.items()}


def gprl_drift(run: PolicyRun, iteration: int, scored: Scored) -> Drift | None:
    """GPRL's monitor: this iteration's blocks against the first one's; None where the scorer has no embeddings."""
    if scored.embedding is None:
        return None
    first = run.folder(1) / "shares.json"
    initial = np.array(json.loads(first.read_text(encoding="utf-8")), np.float32) if iteration > 1 else None
    drift = block_drift(scored, initial)
    if iteration == 1:
        write_json_on_first_host(first, drift.shares.tolist())
    return drift


def update_policy(
    run: PolicyRun, iteration: int, policy: OpenDecoder, examples: list[Example], drift: Drift | None
) -> None:
    """Fits π_{t+1} from π_t and exports it.

    Raises:
      ValueError: there is no example.
      StopRequested: before the last step.
    """
    config, folder = run.config, run.folder(iteration)
    if not examples:
        raise ValueError(f"{folder}: every response ties with its siblings, there is nothing to learn from")
    batches = Batches(examples, config.batch, run.sampling_seed(iteration, 1))
    decoder, runtime, shape = policy.model.config, policy.model.runtime, batches.shape
    work = dense_work(decoder, shape.rows, shape.tokens, 0)
    task = TrainingTask(
        steps=config.epochs * batches.steps_an_epoch,
        batch=batches,
        put=functools.partial(put_whole_batch, run.mesh),
        make_step=lambda optimizer: make_policy_step(
            policy.model,
            optimizer,
            config.loss.at(iteration),
            accumulate=config.optimizer.accumulate,
            tightening=drift.tightening if drift and config.loss.method == "gprl" else 1.0,
        ),
        rows=lambda batch: batch.row,
        places={prompt.number: prompt.prompt.where for prompt in run.prompts},
        decoder=decoder,
        runtime=runtime,
        work=work._replace(predicted=float(shape.rows * shape.responses * shape.length)),
        record=lambda: {"iteration": iteration},
        shown=("loss", "kl_k1"),
    )
    params, freeze = {"decoder": policy.load()}, frozen_patterns(config.policy)
    with Checkpoints(folder / "train" / "checkpoints", config.checkpoint) as checkpoints:
        trained = train(task, params, freeze, config, run.mesh, checkpoints, folder / "train", run.stop)
    if trained.status == "interrupted":
        raise StopRequested
    hub.save_decoder(
        folder / "policy", trained.params, decoder, policy.tokenizer, lora=runtime.lora, dtype=config.export_dtype
    )
    if is_first_host():
        # The policy is exported: its optimiser's moments, several times its size, are of no more use.
        shutil.rmtree(folder / "train" / "checkpoints")
