"""A compiled step on a slice: whether it fits, its FLOPs and bytes, and a lower bound of its time."""

import dataclasses
from typing import Any

import jax
from rich.table import Table

from gpmjax.aot.compute import matrix_flops
from gpmjax.aot.estimate import Prediction
from gpmjax.aot.exchange import Exchange
from gpmjax.aot.hlo import Module
from gpmjax.aot.program import Compiled, Memory
from gpmjax.aot.topology import USABLE
from gpmjax.aot.traffic import collectives, hbm_bytes, sent_by_kind
from gpmjax.aot.workload import Workload
from gpmjax.chips import GIB, Tpu
from gpmjax.config import Config
from gpmjax.config.improve import ImproveConfig
from gpmjax.sharding import path_name
from gpmjax.train.flops import hardware_costs, hardware_flops, model_costs
from gpmjax.train.optimizer import frozen_patterns, split_params

USABLE_BY_FORMULA = 0.9
"""The share of a device's memory that may be used where the need is predicted by a formula."""


@dataclasses.dataclass(frozen=True)
class Report:
    """The figures of one topology for one step. Bytes and seconds are of one chip; FLOPs are of the whole slice."""

    topology: str
    chips: int
    memory: Memory
    hbm: int
    """The chip's memory in bytes."""
    model_flops: float
    """FLOPs required, by formula, with every slot of every row in use."""
    hardware_flops: float
    """FLOPs executed, by the same formula: with recomputation and masked pairs."""
    planned_flops: float
    """FLOPs required, plus the recomputation that ``remat`` asks for."""
    compiled_flops: float
    """FLOPs of the compiled matrix products and kernels; a kernel counts with all blocks that it may visit."""
    collectives: dict[str, dict[str, float]]
    """{kind: {"times", "bytes"}}: how often a step starts such a collective, and the bytes that a chip sends by it."""
    needed: Exchange
    """Bytes that a chip must send, in theory."""
    hbm_bytes: float
    """Bytes read from and written to HBM."""
    bounds: dict[str, float]
    """{"flops", "hbm", "interconnect"}: the seconds that each takes at its published peak."""

    @property
    def fits(self) -> bool:
        return self.memory.peak <= USABLE * self.hbm

    @property
    def sent(self) -> float:
        """The bytes that a chip sends by all collectives."""
        return sum(kind["bytes"] for kind in self.collectives.values())

    @property
    def bound(self) -> float:
        """A lower bound of the step's seconds: the three can at best overlap. It is not a measurement."""
        return max(self.bounds.values())

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {
            "memory": self.memory._asdict() | {"peak": self.memory.peak},
            "fits": self.fits,
            "needed": self.needed._asdict() | {"total": self.needed.total},
            "flops_compiled_over_planned": self.compiled_flops / self.planned_flops,
            "bytes_sent_over_needed": self.sent / self.needed.total if self.needed.total else None,
            "step_time_lower_bound_seconds": self.bound,
        }


def report(topology: str, chip: Tpu, chips: int, workload: Workload, compiled: Compiled) -> Report:
    """The report of a compiled step, with the chip's published figures."""
    module = Module(compiled.text)
    sent = sent_by_kind(collectives(module, chips))
    moved = hbm_bytes(module)
    model_flops, planned_flops, run_flops = step_flops(workload)
    compiled_flops = chips * matrix_flops(module)
    bounds = {
        "flops": compiled_flops / chips / chip.flops,
        "hbm": moved / chip.hbm_bandwidth,
        "interconnect": sum(kind["bytes"] for kind in sent.values()) / chip.link_bandwidth,
    }
    flops = (model_flops, run_flops, planned_flops, compiled_flops)
    return Report(topology, chips, compiled.memory, chip.hbm, *flops, sent, compiled.needed, moved, bounds)


def step_flops(workload: Workload) -> tuple[float, float, float]:
    """FLOPs of a step whose rows are full: required, required plus recomputed, executed."""
    trainable, frozen = split_params(workload.params, frozen_patterns(workload.backbone))
    shape = workload.decoder, _sizes(workload.params), frozenset(_sizes(trainable))
    runtime = workload.backbone.runtime()
    return (
        float(model_costs(*shape).of(workload.needed)),
        # With plain attention, only what ``remat`` asks for is computed twice.
        float(hardware_costs(*shape, dataclasses.replace(runtime, attention="xla")).of(workload.needed)),
        hardware_flops(workload.decoder, runtime, trainable, frozen, workload.run),
    )


def _sizes(tree: Any) -> dict[str, int]:
    """Path → number of elements of every leaf."""
    return {path_name(path): leaf.size for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def advice(config: Config | ImproveConfig, workload: Workload, chips: int, state_first: bool) -> list[str]:
    """Changes to try when a step does not fit, the first ones first.

    Args:
      state_first: begin with parameters and optimiser state, not with memory that grows with the rows.
    """
    flag, backbone, tensor = f"--config.{workload.section}", workload.backbone, config.mesh.tensor
    state = ["more chips: parameters and optimiser state are split over all of them"]
    if not backbone.lora_rank:
        state.append(f"LoRA ({flag}.lora_rank=16): gradients and optimiser state for the adapters only")
        if config.optimizer.name == "adamw":
            state.append("factored optimiser state (--config.optimizer.name=adafactor)")
    rows = []
    if backbone.remat != "full":
        rows.append(f"recomputation ({flag}.remat=full)")
    if backbone.attention == "xla":
        rows.append(f"attention by blocks ({flag}.attention=flash on accelerators, {flag}.attention=chunked anywhere)")
    if workload.rows // config.optimizer.accumulate > chips // tensor:
        rows.append("fewer rows at a time (--config.optimizer.accumulate), or more chips")
    rows.append(f"shorter rows ({workload.fewer_slots})")
    if chips > tensor:
        rows.append(f"each row over more chips (--config.mesh.tensor={2 * tensor})")
    return [*state, *rows] if state_first else [*rows, *state]


def reports_table(reports: list[Report], title: str) -> Table:
    """A table with one row per topology."""
    table = Table(
        title=title, caption="Bounds come from published peaks and the compiled program. Nothing here is measured."
    )
    for column in (
        "topology",
        "HBM a chip, GiB",
        "fits",
        "PFLOPs",
        "sent a chip, GB (times)",
        "HBM traffic, GB",
        "step time ≥, s",
    ):
        table.add_column(column)
    for r in reports:
        gib = {name: f"{size / GIB:6.2f}" for name, size in (r.memory._asdict() | {"peak": r.memory.peak}).items()}
        sent = [
            f"{kind} {v['bytes'] / 1e9:.2f} ({v['times']:.0f})" for kind, v in r.collectives.items() if v["bytes"] > 1e7
        ]
        sent += [f"{r.sent / 1e9:.2f} of {r.needed.total / 1e9:.2f} needed"] if sent else []
        bounds = [f"{seconds:.3f} {what}" for what, seconds in r.bounds.items()]
        table.add_row(
            f"{r.topology}\n{r.chips} chips",
            f"{gib['arguments']} arguments\n{gib['temporaries']} temporaries\n{gib['peak']} peak of {r.hbm / GIB:.0f}",
            "yes" if r.fits else "NO",
            f"{r.model_flops / 1e15:.2f} needed\n{r.planned_flops / 1e15:.2f} planned\n"
            f"{r.compiled_flops / 1e15:.2f} compiled",
            "\n".join(sent) or "nothing",
            f"{r.hbm_bytes / 1e9:.0f}",
            "\n".join([f"[bold]{r.bound:.3f}[/bold]", *bounds]),
        )
    return table


def predictions_table(predictions: list[tuple[str, Prediction, float]], title: str) -> Table:
    """A table with one row for each (topology, prediction, bytes of memory)."""
    table = Table(title=title, caption="Predicted from shapes, not compiled and not measured.")
    for column in ("topology", "state", "gradients", "weights", "activations", "peak, GB a device", "fits"):
        table.add_column(column, justify="left" if column == "topology" else "right")
    for topology, prediction, memory in predictions:
        parts = [f"{part / 1e9:.1f}" for part in prediction]
        fits = "yes" if prediction.peak <= USABLE_BY_FORMULA * memory else "NO"
        table.add_row(topology, *parts, f"{prediction.peak / 1e9:.1f} of {memory / 1e9:.0f}", fits)
    return table
