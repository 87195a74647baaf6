"""Fits a preference model: config in, a directory with a model, metrics and ``summary.json`` out.

`fit` goes through four phases, each of them a function here:

    read     own the work directory, choose the mesh, open the model, read and encode the data
    begin    compare with the earlier run's record, encode features (frozen backbone), load parameters, choose penalties
    train    restore the newest checkpoint, then steps, evaluations and checkpoints (gpmjax.train.run)
    finish   fit the second stage if there is one, evaluate, export

A fit measures its held-out sets by gpmjax.evals, as an evaluation of the saved model does.
"""

import dataclasses
import functools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from gpmjax import hub
from gpmjax.config import Config
from gpmjax.data.assemble import BatchShape, assemble, assemble_features
from gpmjax.data.pipeline import Pipeline
from gpmjax.distributed import any_host, is_first_host
from gpmjax.feature_store import FeatureStore
from gpmjax.fit.examples import example
from gpmjax.fit.features import GroupFeatures, encode_missing, feature_encoder
from gpmjax.fit.inputs import Assemble, FitData, read_data, training_pipeline, two_stages
from gpmjax.fit.regulariser import Settled, fit_second_stage, settle_penalties
from gpmjax.fit.step import Batch, make_train_step
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.scores import PreferenceOutput
from gpmjax.progress import ProgressBar
from gpmjax.sharding import put_batch, put_whole_batch, replicated, shared_rows
from gpmjax.train.backbone import Backbone, open_backbone
from gpmjax.train.checkpoint import Checkpoints
from gpmjax.train.flops import dense_work
from gpmjax.train.loop import StopRequest, StopRequested
from gpmjax.train.metrics import write_json_on_first_host
from gpmjax.train.optimizer import frozen_patterns, merge_params
from gpmjax.train.record import fit_record, refuse_changes
from gpmjax.train.run import Figures, Summary, Trained, TrainingTask, open_mesh, train
from gpmjax.train.workdir import owned_workdir

EXAMPLES = 6
"""Groups of which a run leaves embeddings and scores to draw."""

Apply = Callable[[Any, Batch], PreferenceOutput]
"""(all parameters, batch on the devices) → output, whole on every host."""


def fit(config: Config, workdir: str | Path) -> dict[str, Any]:
    """Trains as ``config`` says, or goes on where an earlier call in ``workdir`` stopped; returns the summary.

    SIGTERM and SIGINT save within a step and return a summary with status "interrupted".

    Raises:
      ValueError, FileNotFoundError: a config, data file or model that cannot be used; one line.
      TrainingDiverged: a loss that is not finite; names the step and the rows, and the last checkpoint is kept.
      OSError: a checkpoint could not be written, and earlier ones are kept; or another run owns ``workdir``.
    """
    config.validate()
    workdir = Path(workdir)
    with owned_workdir(workdir), StopRequest() as stop:
        summary = Summary(workdir, config)
        run = read_inputs(config, workdir, stop)
        summary.add(**_first_figures(run))
        try:
            with Checkpoints(workdir / "checkpoints", config.checkpoint) as checkpoints:
                start = begin(run, checkpoints)
                if start.settled.figures:
                    summary.add(regularisation=start.settled.figures)
                freeze = frozen_patterns(config.model)
                trained = train(task_of(run, start), start.params, freeze, config, run.mesh, checkpoints, workdir, stop)
                summary.add(**_trained_figures(run, trained, checkpoints))
                if trained.status == "finished":
                    finish(run, start, trained, checkpoints, summary)
                return summary.write(trained.status)
        except StopRequested:
            return summary.write("interrupted")


@dataclasses.dataclass(frozen=True)
class FitRun:
    """What all phases of a fit read."""

    config: Config
    workdir: Path
    stop: StopRequest
    mesh: Mesh
    backbone: Backbone
    data: FitData
    pipeline: Pipeline
    """Training batches, this host's rows of them."""
    steps: int
    base: Future[str]
    """The backbone's fingerprint; reading all of its files takes a while."""

    @property
    def frozen_backbone(self) -> bool:
        return self.config.model.backbone == "frozen"

    @functools.cached_property
    def record(self) -> dict[str, Any]:
        """What a resumed run must have in common with this one."""
        sets = self.data.eval_sets
        ranked_by = sets[self.config.data.eval[0]].pipeline.groups if sets else None
        spec, sources = self.backbone.model.spec, self.data.sources
        return fit_record(self.config, spec, self.steps, self.base.result(), sources, ranked_by)


class Start(NamedTuple):
    """What training begins with."""

    settled: Settled
    params: dict
    """The heads' alone where the backbone is frozen."""
    assemble: Assemble


def read_inputs(config: Config, workdir: Path, stop: StopRequest) -> FitRun:
    """First phase: everything that needs no weights, in the order in which it can fail cheaply."""
    mesh = open_mesh(config.mesh, "data.rows", config.data.rows, config.optimizer.accumulate)
    backbone = open_backbone(config.model, mesh, config.seed)
    data = read_data(config, backbone)
    reader = ThreadPoolExecutor(1)
    base = reader.submit(backbone.fingerprint)
    reader.shutdown(wait=False)
    pipeline = training_pipeline(config, data.train, mesh)
    steps = config.steps or max(pipeline.steps(config.epochs), config.least_steps)
    return FitRun(config, workdir, stop, mesh, backbone, data, pipeline, steps, base)


def begin(run: FitRun, checkpoints: Checkpoints) -> Start:
    """Second phase: features, parameters, penalties. A run that may not go on is refused before weights are loaded."""
    config, model, place = run.config, run.backbone.model, str(run.workdir)
    checkpoints.check_latest(lambda saved: refuse_changes(place, saved, run.record))
    assemble_batch = assemble
    if run.frozen_backbone:
        features = encode_features(run)
        assemble_batch = functools.partial(assemble_features, features=features, hidden_size=model.config.hidden_size)
    params = {"heads": run.backbone.load_heads()} if run.frozen_backbone else run.backbone.load()
    settled = settle_penalties(
        config,
        run.workdir,
        run.data,
        model,
        params["heads"],
        run.steps,
        assemble_batch,
        resumed=checkpoints.latest() is not None,
        between=run.stop.raise_if_agreed,
    )

    def refuse_another_choice(saved: dict[str, Any]) -> None:
        if "chosen" in saved:
            refuse_changes(place, saved, settled.choice)

    checkpoints.check_latest(refuse_another_choice)
    return Start(settled, params, assemble_batch)


def encode_features(run: FitRun) -> GroupFeatures:
    """Features of every group, for a frozen backbone: those that the cache lacks are computed."""
    config, model, data = run.config, run.backbone.model, run.data
    directory = Path(config.model.feature_cache or run.workdir / "features")
    access = "write" if is_first_host() else "read"
    store = FeatureStore(directory, run.base.result(), model.config.hidden_size, access)
    groups = data.groups + [group for found in data.eval_sets.values() for group in found.pipeline.groups]
    encoder = feature_encoder(model, run.backbone.load_decoder, run.mesh)

    def encode(batch):
        run.stop.raise_if_agreed()
        return encoder(batch)

    bar: list[ProgressBar] = []

    def progress(done: int, total: int) -> None:
        if not bar:
            bar.append(ProgressBar("encode", total, done))
        bar[0].update(done, {})

    try:
        encode_missing(
            groups,
            store,
            encode,
            rows=shared_rows(run.mesh, 4),
            row_length=config.data.max_length,
            progress=progress,
            agree=lambda lacking: np.asarray(any_host(lacking)),
        )
    finally:
        for opened in bar:
            opened.close()
    return GroupFeatures(store)


def task_of(run: FitRun, start: Start) -> TrainingTask:
    """Third phase, as the engine sees it."""
    config, (settled, _, assemble_batch), shape = run.config, start, run.pipeline.shape
    model, loss = settled.model, settled.loss
    apply = jit_apply(model, run.mesh)
    slots = 0 if run.frozen_backbone else shape.tokens

    def rank(figures: Figures) -> dict[str, float] | None:
        """The first evaluation set's figures."""
        first = figures.get(config.data.eval[0]) if figures else None
        return first and {"accuracy": float(first["accuracy"]), "nll": float(first["nll"])}

    return TrainingTask(
        steps=run.steps,
        batch=lambda step: assemble_batch(run.pipeline.rows(step), shape),
        put=functools.partial(put_batch, run.mesh),
        make_step=lambda optimizer: make_train_step(model, optimizer, loss, config.optimizer.accumulate),
        rows=lambda batch: np.asarray(batch.comparisons.number),
        places=run.data.train.places,
        decoder=model.config,
        runtime=model.runtime,
        work=dense_work(model.config, shape.rows, slots, shape.responses, loss.lm_coefficient),
        record=lambda: run.record | settled.choice,
        units="responses" if run.frozen_backbone else "tokens",
        evaluate=lambda params: evaluate_sets(run, assemble_batch, apply, params),
        eval_every=config.eval_every,
        rank=rank,
    )


def jit_apply(model: PreferenceModel, mesh: Mesh) -> Apply:
    """The compiled forward pass of ``model``."""
    return jax.jit(lambda params, batch: model.apply({"params": params}, batch), out_shardings=replicated(mesh))


def evaluate_sets(run: FitRun, assemble_batch: Assemble, apply: Apply, params: Any) -> Figures:
    """Figures of every evaluation set. Raises StopRequested between batches."""

    def scorer(batch: Batch) -> PreferenceOutput:
        run.stop.raise_if_agreed()
        return apply(params, put_whole_batch(run.mesh, batch))

    figures = {}
    for name, eval_set in run.data.eval_sets.items():
        pipeline = eval_set.pipeline
        batches = (assemble_batch(pipeline.rows(step), pipeline.shape) for step in range(pipeline.steps(1)))
        figures[name] = eval_set.measure(scorer, batches)
    return figures


def finish(run: FitRun, start: Start, trained: Trained, checkpoints: Checkpoints, summary: Summary) -> None:
    """Fourth phase: chooses the parameters to export, fits stage two, evaluates where nothing has, and exports."""
    config, model, staged = run.config, start.settled.model, two_stages(run.config)
    last = exported = trained.params
    if config.export_step == "best" and (step := checkpoints.best()) is not None:
        best = checkpoints.restore(step, trained.state, run.mesh)
        exported = merge_params(best.params, trained.frozen)
    if staged:
        stage_one, between = exported, run.stop.raise_if_agreed
        encode = feature_encoder(model, lambda: stage_one["decoder"], run.mesh)
        model, exported, figures = fit_second_stage(
            config, run.workdir, run.data, model, stage_one, encode, between=between
        )
        last = exported
        summary.add(regularisation=figures, tau=model.spec.tau)
    apply = jit_apply(model, run.mesh)
    if run.data.eval_sets and (staged or not trained.evaluation):
        # Not known yet: the model has changed since the loop, or nothing was left to train.
        summary.add(eval=evaluate_sets(run, start.assemble, apply, last))
    write_examples(run, start.assemble, apply, last)
    if config.export == "none":
        return
    if run.frozen_backbone:
        exported["decoder"] = run.backbone.load_decoder()
    directory, tokenizer = run.workdir / "model", run.backbone.tokenizer
    lora = model.runtime.lora
    hub.save_preference_model(directory, exported, model.config, model.spec, tokenizer, form=config.export, lora=lora)
    summary.add(model=str(directory))


def write_examples(run: FitRun, assemble_batch: Assemble, apply: Apply, params: Any) -> None:
    """Writes preferences-N.json of some training groups, to be drawn."""
    if run.backbone.model.spec.question:
        return  # a row holds questions, not responses
    groups = [group for group in run.data.groups if len(group.responses) > 2]
    for n, group in enumerate(groups[:EXAMPLES]):
        shape = BatchShape(run.config.data.rows, *group.size)
        batch = assemble_batch([[group]] + [[]] * (shape.rows - 1), shape)
        output = apply(params, put_whole_batch(run.mesh, batch))
        write_json_on_first_host(run.workdir / f"preferences-{n}.json", example(group, output, run.backbone.tokenizer))


def _first_figures(run: FitRun) -> dict[str, Any]:
    """The summary of a run that is stopped before its first step."""
    reports = {"train": run.data.train.report} | {name: found.report for name, found in run.data.eval_sets.items()}
    return {
        "step": 0,
        "best_step": None,
        "eval": {},
        "tau": run.backbone.model.spec.tau,
        "responses" if run.frozen_backbone else "tokens": 0,
        "speed": {},
        "parameters": {"trained": 0, "frozen": 0},
        "data": {name: report._asdict() for name, report in reports.items()},
        "model": None,
    }


def _trained_figures(run: FitRun, trained: Trained, checkpoints: Checkpoints) -> dict[str, Any]:
    return {
        "step": trained.step,
        "best_step": checkpoints.best(),
        "eval": trained.evaluation,
        "responses" if run.frozen_backbone else "tokens": trained.units,
        "speed": trained.speed,
        "parameters": trained.parameters(),
    }
