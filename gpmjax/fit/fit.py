"""Fits a preference model: config in, a directory with a model, metrics and ``summary.json`` out.

What happens, in order: read the config → own the work directory → mesh → open the model → read and encode the data → compare
with the record of the run before (train.record) → (frozen backbone: encode what the feature cache lacks) → restore the newest checkpoint → train → evaluate → export → summary. Evaluators are
handed in, so this package knows nothing of what they measure.
"""

import dataclasses
import functools
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gpmjax import hub
from gpmjax.chips import peak_flops
from gpmjax.config import Config
from gpmjax.data.assemble import BatchShape, Rows, assemble, assemble_features
from gpmjax.data.chat import ChatFormat
from gpmjax.data.pipeline import Pipeline
from gpmjax.data.questions import response_format
from gpmjax.distributed import any_host, is_first_host
from gpmjax.feature_store import FeatureStore
from gpmjax.fit.examples import example
from gpmjax.fit.features import GroupFeatures, encode_missing, feature_encoder
from gpmjax.fit.inputs import OpenHeldOut, batch_shape, fit_data
from gpmjax.fit.regulariser import Regulariser
from gpmjax.fit.step import Batch, make_train_step
from gpmjax.models.scores import PreferenceOutput
from gpmjax.progress import ProgressBar
from gpmjax.sharding import make_mesh, put_batch, put_whole_batch, replicated, row_share
from gpmjax.train.backbone import open_backbone
from gpmjax.train.checkpoint import Checkpoints
from gpmjax.train.flops import Work, dense_work, hardware_flops
from gpmjax.train.loop import Loop, LoopHooks, LoopPlan, StopRequest, StopRequested
from gpmjax.train.metrics import MetricsWriter, write_json
from gpmjax.train.optimizer import count, frozen_patterns, make_optimizer, merge, schedule, split
from gpmjax.train.record import fit_record, refuse_changes
from gpmjax.train.speed import known_peak
from gpmjax.train.state import TrainState, init_state, jit_step
from gpmjax.train.workdir import owned_workdir

EXAMPLES = 6
"""Groups of which a run leaves embeddings and scores to draw."""


def fit(config: Config, workdir: str | Path, open_held_out: OpenHeldOut) -> dict[str, Any]:
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
        run = Run(config, workdir, open_held_out, stop)
        try:
            return run()
        except StopRequested:
            return run.summary("interrupted", step=run.step)


class Run:
    """One call of ``fit``: its parts, built in the order in which they can fail cheaply."""

    def __init__(self, config: Config, workdir: Path, open_held_out: OpenHeldOut, stop: StopRequest):
        self.config, self.workdir, self.stop = config, workdir, stop
        self._started = time.monotonic()
        self.mesh = make_mesh(**dataclasses.asdict(config.mesh))
        rows, places = config.data.rows, self.mesh.shape["data"] * self.mesh.shape["fsdp"]
        if rows // config.optimizer.accumulate % places:
            raise ValueError(
                f"config.data.rows={rows}: must be a multiple of {places * config.optimizer.accumulate} "
                f"(mesh data × fsdp = {places}, accumulate = {config.optimizer.accumulate})"
            )
        self.backbone = open_backbone(config.model, self.mesh, config.seed)
        self.model = self.backbone.model
        self.model.config.require_positions("config.data.max_length", config.data.max_length)
        chat = ChatFormat(self.backbone.tokenizer, template=config.data.template, **self.model.spec.encoding())
        reads = functools.partial(response_format, chat, self.model.spec.question, self.model.spec.kind)
        prepared = fit_data(config, reads(order=config.data.order), config.data.train)
        self.regulariser = Regulariser(config, workdir, prepared, stop.raise_if_agreed)
        self.train = self.regulariser.train
        self.sources = prepared.sources
        self.held_out = {
            source: open_held_out(
                source,
                reads(),
                max_length=config.data.max_length,
                rows_per_batch=rows,
                row_length=config.data.row_length or None,
            )
            for source in config.data.eval
        }
        reports = {"config.data.train": self.train.report} | {name: data.report for name, data in self.held_out.items()}
        for name, report in reports.items():
            if cut := report.cut_line(config.data.max_length):
                logging.warning("%s: %s", name, cut)
        self.frozen_backbone = config.model.backbone == "frozen"
        self.features: GroupFeatures | None = None
        self.trained = self.untouched = 0
        self.loop: Loop | None = None
        self.step = self.steps = 0
        """What this call has come to, and how many there are to be."""
        reader = ThreadPoolExecutor(1)
        self.base = reader.submit(self.backbone.fingerprint)  # all of its files are read, while other things are done
        reader.shutdown(wait=False)

    def __call__(self) -> dict[str, Any]:
        config = self.config
        pipeline = self._train_pipeline()
        self.steps = steps = config.steps or max(pipeline.steps(config.epochs), config.least_steps)
        with Checkpoints(self.workdir / "checkpoints", config.checkpoint) as checkpoints:
            # Before the model is loaded.
            checkpoints.check_latest(lambda saved: refuse_changes(str(self.workdir), saved, self._record))
            if self.frozen_backbone:
                self._encode_features()
            optimizer = make_optimizer(config.optimizer, steps)
            params = {"heads": self.backbone.load_heads()} if self.frozen_backbone else self.backbone.load()
            resumed = checkpoints.latest() is not None
            self.model = self.regulariser.before_fit(self.model, params["heads"], steps, self._assemble, resumed)
            checkpoints.check_latest(self._refuse_another_choice)
            trainable, frozen = split(params, frozen_patterns(config.model))
            self.trained, self.untouched = count(trainable), count(frozen)
            state = self._resumed(checkpoints, init_state(trainable, optimizer, self.mesh))
            writer = MetricsWriter(self.workdir, resumed_step=int(state.step))
            try:
                self.loop = Loop(
                    self._hooks(pipeline, optimizer, state, frozen, checkpoints),
                    LoopPlan(
                        steps,
                        config.log_every,
                        config.eval_every,
                        config.checkpoint.every,
                        schedule(config.optimizer, steps),
                        evaluate_first=self.step > 0 and checkpoints.metrics(self.step) is None,
                        hardware_flops=hardware_flops(
                            self.model.config, self.model.runtime, trainable, frozen, self._work(pipeline.shape)
                        ),
                        peak_flops=known_peak(),
                    ),
                    writer,
                    self.stop,
                )
                state, status = self.loop.run(state)
                self.step = int(state.step)
                checkpoints.wait()
            finally:
                writer.close()
            if status == "finished":
                self._finish(state, frozen, checkpoints)
            return self.summary(status, self.step, best=checkpoints.best())

    # Data

    def _train_pipeline(self) -> Pipeline:
        share, shares = row_share(self.mesh)
        return Pipeline(
            self.train.sources,
            batch_shape(self.config, self.train),
            weights=self.config.data.weights or None,
            seed=self.config.seed,
            packing=self.config.data.packing,
            host=share,
            hosts=shares,
        )

    def _assemble(self, rows: Rows, shape: BatchShape) -> Batch:
        if self.features is None:
            return assemble(rows, shape)
        return assemble_features(rows, shape, self.features, hidden_size=self.model.config.hidden_size)

    def _batch(self, pipeline: Pipeline, step: int) -> Batch:
        return self._assemble(pipeline.rows(step), pipeline.shape)

    def _encode_features(self) -> None:
        config = self.config
        directory = Path(config.model.feature_cache or self.workdir / "features")
        access = "write" if is_first_host() else "read"
        store = FeatureStore(directory, self.base.result(), self.model.config.hidden_size, access)
        groups = [group for source in self.train.sources for group in source]
        groups += [group for held_out in self.held_out.values() for group in held_out.pipeline.groups]

        encoder = feature_encoder(self.model, self.backbone.load_decoder, self.mesh)

        def encode(batch):
            self.stop.raise_if_agreed()
            return encoder(batch)

        bar: list[ProgressBar] = []

        def progress(done: int, total: int) -> None:
            if not bar:
                bar.append(ProgressBar("encode", total, done))
            bar[0].update(done, {})

        places = self.mesh.shape["data"] * self.mesh.shape["fsdp"]
        try:
            encode_missing(
                groups,
                store,
                encode,
                rows=-(-4 // places) * places,  # a few rows at least, as many on every device
                row_length=config.data.max_length,
                progress=progress,
                agree=lambda lacking: np.asarray(any_host(lacking)),
            )
        finally:
            for opened in bar:
                opened.close()
        self.features = GroupFeatures(store)

    def _work(self, shape: BatchShape) -> Work:
        """What a batch makes the devices do."""
        slots = 0 if self.frozen_backbone else shape.tokens
        return dense_work(self.model.config, shape.rows, slots, shape.responses, self.config.loss.lm_coefficient)

    # The loop's hooks

    def _hooks(
        self, pipeline: Pipeline, optimizer, state: TrainState, frozen: Any, checkpoints: Checkpoints
    ) -> LoopHooks:
        step = make_train_step(self.model, optimizer, self.regulariser.loss, self.config.optimizer.accumulate)
        step = jit_step(step, state, self.mesh)

        def name_rows(rows: np.ndarray) -> str:
            shown = ", ".join(self.train.places[row] for row in rows[:5])
            return shown + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")

        return LoopHooks(
            batch=lambda n: self._batch(pipeline, n),
            put=functools.partial(put_batch, self.mesh),
            step=lambda state, batch: step(state, frozen, batch),
            units="responses" if self.frozen_backbone else "tokens",
            rows=lambda batch: np.asarray(batch.comparisons.number),
            name_rows=name_rows,
            evaluate=lambda state: self._evaluate(merge(state.params, frozen)),
            save=lambda state, figures: checkpoints.save(state, self._record | self._choice, self._ranked(figures)),
        )

    @functools.cached_property
    def _apply(self):
        model = self.model
        return jax.jit(
            lambda params, batch: model.apply({"params": params}, batch), out_shardings=replicated(self.mesh)
        )

    def _fit_cyclic_part(self, params: Any) -> Any:
        """Stage two of a fit in two stages: changes what the model declares, and returns the parameters."""
        encode = feature_encoder(self.model, lambda: params["decoder"], self.mesh)
        self.model, params = self.regulariser.after_fit(self.model, params, encode)
        self.__dict__.pop("_apply", None)  # it was compiled for stage one's γ and τ
        return params

    def _evaluate(self, params: Any) -> dict[str, dict[str, Any]]:
        def scorer(batch: Batch) -> PreferenceOutput:
            self.stop.raise_if_agreed()
            return self._apply(params, put_whole_batch(self.mesh, batch))

        figures = {}
        for name, held_out in self.held_out.items():
            pipeline = held_out.pipeline
            batches = (self._batch(pipeline, n) for n in range(pipeline.steps(1)))
            figures[name] = held_out.measure(scorer, batches)
        return figures

    def _ranked(self, figures: dict[str, dict[str, Any]]) -> dict[str, float] | None:
        """What checkpoints are ranked by: the first eval set's figures."""
        if not figures:
            return None
        first = figures[self.config.data.eval[0]]
        return {"accuracy": float(first["accuracy"]), "nll": float(first["nll"])}

    # Resuming and ending

    @functools.cached_property
    def _record(self) -> dict[str, Any]:
        ranked_by = self.held_out[self.config.data.eval[0]].pipeline.groups if self.held_out else None
        return fit_record(
            self.config, self.backbone.model.spec, self.steps, self.base.result(), self.sources, ranked_by
        )

    @property
    def _choice(self) -> dict[str, Any]:
        """What took the place of "auto" in the config's loss."""
        return {"chosen": {name: getattr(self.regulariser.loss, name) for name in ("curl", "gate_penalty")}}

    def _refuse_another_choice(self, saved: dict[str, Any]) -> None:
        if "chosen" in saved:
            refuse_changes(str(self.workdir), saved, self._choice)

    def _resumed(self, checkpoints: Checkpoints, state: TrainState) -> TrainState:
        resumed = checkpoints.resume(state, self.mesh)
        if resumed is None:
            return state
        self.step = int(resumed.step)
        logging.info("%s: resuming at step %d", self.workdir, self.step)
        return resumed

    def _write_examples(self, params: Any) -> None:
        """preferences-N.json for some training groups, to be drawn."""
        if self.model.spec.question:
            return  # what is in a row are questions, not answers
        groups = [group for source in self.train.sources for group in source if len(group.responses) > 2]
        for n, group in enumerate(groups[:EXAMPLES]):
            shape = BatchShape(self.config.data.rows, *group.size)
            batch = self._assemble([[group]] + [[]] * (shape.rows - 1), shape)
            output = self._apply(params, put_whole_batch(self.mesh, batch))
            write_json(self.workdir / f"preferences-{n}.json", example(group, output, self.backbone.tokenizer))

    def _finish(self, state: TrainState, frozen: Any, checkpoints: Checkpoints) -> None:
        last = exported = merge(state.params, frozen)
        if self.config.export_step == "best" and checkpoints.best() is not None:
            exported = merge(checkpoints.restore(checkpoints.best(), state, self.mesh).params, frozen)
        if self.regulariser.two_stages:
            last = exported = self._fit_cyclic_part(exported)
        if self.held_out and (self.regulariser.two_stages or not self.loop.evaluation):
            # Not known yet: the model has changed since the loop, or nothing was left to train.
            self.loop.evaluation = self._evaluate(last)
        self._write_examples(last)
        if self.config.export == "none":
            return
        if self.frozen_backbone:
            exported["decoder"] = self.backbone.load_decoder()
        hub.save_preference_model(
            self.workdir / "model",
            exported,
            self.model.config,
            self.model.spec,
            self.backbone.tokenizer,
            form=self.config.export,
            lora=self.model.runtime.lora,
        )

    def summary(self, status: str, step: int, best: int | None = None) -> dict[str, Any]:
        """Every final figure, written to ``summary.json`` and returned."""
        device = jax.devices()[0]
        figures = {
            "status": status,
            "step": step,
            "best_step": best,
            "eval": self.loop.evaluation if self.loop else {},
            "tau": self.model.spec.tau,
            **({"regularisation": self.regulariser.figures} if self.regulariser.figures else {}),
            "seconds": round(time.monotonic() - self._started, 1),
            "responses" if self.frozen_backbone else "tokens": self.loop.speed.trained_units if self.loop else 0,
            "speed": self.loop.speed.summary() if self.loop else {},
            "parameters": {"trained": self.trained, "frozen": self.untouched},
            "data": {"train": self.train.report._asdict()}
            | {name: held_out.report._asdict() for name, held_out in self.held_out.items()},
            "model": str(self.workdir / "model") if self.config.export != "none" and status == "finished" else None,
            "device": {
                "kind": device.device_kind,
                "platform": device.platform,
                "count": jax.device_count(),
                "hosts": jax.process_count(),
                "peak_flops": peak_flops(device.device_kind) or "unknown, so no MFU",
            },
            "config": dataclasses.asdict(self.config),
        }
        return write_json(self.workdir / "summary.json", figures)
