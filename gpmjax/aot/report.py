"""What a compiled step means for a slice: whether it fits, what it computes and moves, and no less than how long it takes."""

import dataclasses
from typing import Any

import jax
import numpy as np
from rich.table import Table

from gpmjax.aot.chips import GIB, USABLE, Chip
from gpmjax.aot.estimate import Prediction
from gpmjax.aot.hlo import Module
from gpmjax.aot.program import Compiled, Memory
from gpmjax.aot.traffic import collectives, hbm_bytes, sent_by_kind
from gpmjax.config import Config
from gpmjax.data.assemble import BatchShape, assemble
from gpmjax.data.encode import EncodedGroup
from gpmjax.models.config import DecoderConfig
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.sharding import path_name
from gpmjax.train.flops import Work, dense_work, hardware_costs, model_costs, needed_work
from gpmjax.train.optimizer import frozen_patterns, split

USABLE_BY_FORMULA = 0.9
"""Of a device's memory, where only a formula says what is needed."""


@dataclasses.dataclass(frozen=True)
class Report:
    """One topology's figures. Bytes and seconds are a chip's, of one step; FLOPs are the whole slice's."""

    topology: str
    chips: int
    memory: Memory
    hbm: int
    """What the chip has."""
    model_flops: float
    """Needed, by formula, with every slot of every row in use."""
    hardware_flops: float
    """Run, by the same formula: recomputation and masked pairs too."""
    collectives: dict[str, dict[str, float]]
    """{kind: {"times", "bytes"}}: how often a step begins one, and what a chip then sends."""
    hbm_bytes: float
    """Read and written."""
    bounds: dict[str, float]
    """{"flops", "hbm", "interconnect"}: seconds that each takes at its published peak."""

    @property
    def fits(self) -> bool:
        return self.memory.peak <= USABLE * self.hbm

    @property
    def bound(self) -> float:
        """Seconds: no step of this program is faster, as the three can at best overlap. Not a measurement."""
        return max(self.bounds.values())

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {
            "memory": self.memory._asdict() | {"peak": self.memory.peak},
            "fits": self.fits,
            "step_time_lower_bound_seconds": self.bound,
        }


def report(
    topology: str, chip: Chip, chips: int, config: Config, decoder: DecoderConfig, shape: BatchShape, compiled: Compiled
) -> Report:
    """Puts a compiled step and a chip's published figures together."""
    module = Module(compiled.text)
    sent = sent_by_kind(collectives(module, chips))
    moved = hbm_bytes(module)
    model_flops, hardware_flops = step_flops(config, decoder, shape)
    bounds = {
        "flops": hardware_flops / chips / chip.flops,
        "hbm": moved / chip.hbm_bandwidth,
        "interconnect": sum(kind["bytes"] for kind in sent.values()) / chip.link_bandwidth,
    }
    return Report(topology, chips, compiled.memory, chip.hbm, model_flops, hardware_flops, sent, moved, bounds)


def step_flops(config: Config, decoder: DecoderConfig, shape: BatchShape) -> tuple[float, float]:
    """(model FLOPs, hardware FLOPs) of a step whose rows are full: one group each, of ``shape.responses`` equal responses."""
    runtime = config.model.runtime()
    model = PreferenceModel(decoder, config.model.spec(), runtime)
    row = dataclasses.replace(shape, rows=1)
    params = jax.eval_shape(model.init, jax.random.key(0), assemble([[]], row))["params"]
    trainable, _ = split(params, frozen_patterns(config.model))
    names = lambda tree: {path_name(path): leaf.size for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    sizes, trained = names(params), frozenset(names(trainable))
    length = (shape.tokens - 1) // shape.responses
    full = EncodedGroup(np.zeros(1, np.int32), 0, (np.zeros(length, np.int32),) * shape.responses, ())
    coefficient = config.loss.lm_coefficient
    needed = Work(*(shape.rows * float(amount) for amount in needed_work(decoder, assemble([[full]], row), coefficient)))
    run = dense_work(decoder, shape.rows, shape.tokens, shape.responses, coefficient)
    return (
        model_costs(decoder, sizes, trained).of(needed),
        hardware_costs(decoder, sizes, trained, runtime).of(run),
    )


def advice(config: Config, chips: int, state_first: bool) -> list[str]:
    """What to change when a step does not fit.

    Args:
      state_first: begin with parameters and optimiser state, rather than with what grows with the rows.
    """
    state = ["more chips: parameters and optimiser state are split over all of them"]
    if not config.model.lora_rank:
        state.append("LoRA (--config.model.lora_rank=16): gradients and optimiser state for the adapters only")
        if config.optimizer.name == "adamw":
            state.append("factored optimiser state (--config.optimizer.name=adafactor)")
    rows = []
    if config.model.remat != "full":
        rows.append("recomputation (--config.model.remat=full)")
    if config.model.attention == "xla":
        rows.append("attention by blocks (--config.model.attention=chunked)")
    if config.data.rows // config.optimizer.accumulate > chips // config.mesh.tensor:
        rows.append("fewer rows at a time (--config.optimizer.accumulate), or more chips")
    rows.append("shorter rows (--config.data.row_length, --config.data.max_length)")
    if chips > config.mesh.tensor:
        rows.append(f"each row over more chips (--config.mesh.tensor={2 * config.mesh.tensor})")
    return [*state, *rows] if state_first else [*rows, *state]


def reports_table(reports: list[Report], title: str) -> Table:
    """One line a topology."""
    table = Table(title=title, caption="Bounds come from published peaks and the compiled program. Nothing here is measured.")
    for column in ("topology", "HBM a chip, GiB", "fits", "PFLOPs", "sent a chip, GB (times)", "HBM traffic, GB", "step time ≥, s"):
        table.add_column(column)
    for r in reports:
        gib = {name: f"{size / GIB:6.2f}" for name, size in (r.memory._asdict() | {"peak": r.memory.peak}).items()}
        sent = [f"{kind} {v['bytes'] / 1e9:.2f} ({v['times']:.0f})" for kind, v in r.collectives.items() if v["bytes"] > 1e7]
        bounds = [f"{seconds:.3f} {what}" for what, seconds in r.bounds.items()]
        table.add_row(
            f"{r.topology}\n{r.chips} chips",
            f"{gib['arguments']} arguments\n{gib['temporaries']} temporaries\n{gib['peak']} peak of {r.hbm / GIB:.0f}",
            "yes" if r.fits else "NO",
            f"{r.model_flops / 1e15:.2f} model\n{r.hardware_flops / 1e15:.2f} run",
            "\n".join(sent) or "nothing",
            f"{r.hbm_bytes / 1e9:.0f}",
            "\n".join([f"[bold]{r.bound:.3f}[/bold]", *bounds]),
        )
    return table


def predictions_table(predictions: list[tuple[str, Prediction, float]], title: str) -> Table:
    """One line for each (topology, prediction, bytes of memory)."""
    table = Table(title=title, caption="Predicted from shapes, not compiled and not measured.")
    for column in ("topology", "state", "gradients", "weights", "activations", "peak, GB a device", "fits"):
        table.add_column(column, justify="left" if column == "topology" else "right")
    for topology, prediction, memory in predictions:
        parts = [f"{part / 1e9:.1f}" for part in prediction]
        fits = "yes" if prediction.peak <= USABLE_BY_FORMULA * memory else "NO"
        table.add_row(topology, *parts, f"{prediction.peak / 1e9:.1f} of {memory / 1e9:.0f}", fits)
    return table
