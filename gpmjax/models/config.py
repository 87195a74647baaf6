"""The shape and arithmetic of a decoder (``DecoderConfig``), and how it is run (``Runtime``).

Both are frozen and hashable and hold no JAX arrays. One decoder serves Llama, Mistral, Qwen and Gemma; each family is a
setting of these fields.
"""

import dataclasses

from jax.sharding import Mesh

from gpmjax.checks import LARGEST_INT, check_fields, number, whole

ACTIVATIONS = ("silu", "gelu", "gelu_tanh")
LAYER_TYPES = ("full", "sliding")
ROPE_SCALINGS = ("linear", "llama3", "yarn")
MODULES = ("q", "k", "v", "o", "gate", "up", "down")

ATTENTIONS = ("xla", "chunked", "flash", "blockwise")
REMATS = ("none", "full", "dots")
UNROLLS = ("scan", "unrolled")
DTYPES = ("float32", "bfloat16")


def require_one_of(field: str, value: object, allowed: tuple[object, ...]) -> None:
    """Raises ValueError, naming the field, the value and the choices, unless ``value`` is in ``allowed``."""
    if value not in allowed:
        raise ValueError(f"{field} is {value!r}; allowed: {', '.join(map(repr, allowed))}")


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are stretched beyond the length that a model was first trained on.

    ``linear``  every frequency / factor (Chen et al. 2023, arXiv 2306.15595)
    ``llama3``  wavelengths above L/low_freq_factor / factor, below L/high_freq_factor unchanged, blended between
    ``yarn``    as llama3, by numbers of turns; and cos and sin × attention_factor (Peng et al. 2023, arXiv 2309.00071)

    L is ``original_max_positions``. A kind ignores the fields that its line does not need.
    """

    kind: str
    factor: float
    original_max_positions: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 1.0

    def validate(self) -> None:
        """Raises ValueError, one line, on a field that makes no sense."""
        check_fields("rope_scaling", self)
        require_one_of("rope_scaling.kind", self.kind, ROPE_SCALINGS)
        for name in ("factor", "low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow", "attention_factor"):
            number(f"rope_scaling.{name}", getattr(self, name), above=0)
        whole("rope_scaling.original_max_positions", self.original_max_positions, 0)
        if self.kind == "llama3" and self.low_freq_factor == self.high_freq_factor:
            raise ValueError(f"rope_scaling.low_freq_factor={self.low_freq_factor}: must differ from high_freq_factor")
        if self.kind != "linear" and self.original_max_positions < 1:
            raise ValueError(
                f"rope_scaling.original_max_positions is {self.original_max_positions}; {self.kind} needs it ≥ 1"
            )


LARGEST_SIZES = {
    "vocab_size": 2**24,
    "hidden_size": 2**20,
    "num_layers": 2**12,
    "num_heads": 2**14,
    "num_kv_heads": 2**14,
    "head_dim": 2**14,
    "mlp_size": 2**22,
    "max_positions": LARGEST_INT,
}
"""Sizes well above any decoder's. A larger size is a mistake, and is refused before memory is allocated."""


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Shape and arithmetic of a decoder-only transformer. Two equal configs compute the same function.

    >>> DecoderConfig(vocab_size=32, hidden_size=8, num_layers=1, num_heads=2, mlp_size=16).kv_size
    8
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    mlp_size: int
    num_kv_heads: int = 0
    """0 means ``num_heads``: no grouping."""
    head_dim: int = 0
    """0 means hidden_size / num_heads."""
    max_positions: int = 2048
    activation: str = "silu"
    norm_eps: float = 1e-6
    norm_offset: float = 0.0
    """Added to every norm weight; 1 for Gemma, which stores w − 1."""
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    layer_types: tuple[str, ...] = ()
    """One of "full", "sliding" per layer; empty means all full."""
    window: int = 0
    """Positions a token of a sliding layer sees, itself included; 0 when no layer slides."""
    local_rope_theta: float | None = None
    """The rotary base of sliding layers, which then ignore ``rope_scaling``; for Gemma 3."""
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    post_norms: bool = False
    """Attention and MLP outputs are normalised before they are added to the residual; for Gemma 2 and 3."""
    attention_softcap: float | None = None
    final_softcap: float | None = None
    attention_scale: float | None = None
    """Multiplies q·k; None means head_dim^−½."""
    embed_scale: float = 1.0
    tie_embeddings: bool = False

    def __post_init__(self) -> None:
        # This check comes before values are derived: a list of 10⁹ layer types would exhaust the machine's memory.
        for name, most in LARGEST_SIZES.items():
            whole(name, getattr(self, name), 0 if name in ("num_kv_heads", "head_dim") else 1, most)
        derived = {
            "num_kv_heads": self.num_kv_heads or self.num_heads,
            "head_dim": self.head_dim or self.hidden_size // self.num_heads,
            "layer_types": self.layer_types or ("full",) * self.num_layers,
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)
        if self.attention_scale is None:
            object.__setattr__(self, "attention_scale", max(self.head_dim, 1) ** -0.5)

    def require_positions(self, name: str, length: int) -> None:
        """Raises ValueError where a sequence length, called ``name``, exceeds the decoder's ``max_positions``."""
        if length > self.max_positions:
            raise ValueError(f"{name}={length}: must be at most {self.max_positions}, the model's positions")

    @property
    def q_size(self) -> int:
        """Width of all query heads together."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of all key (or value) heads together."""
        return self.num_kv_heads * self.head_dim

    def validate(self) -> "DecoderConfig":
        """Returns itself; raises ValueError, one line, naming the first field that makes no sense."""
        check_fields("", self)
        for name in ("norm_eps", "rope_theta", "attention_scale", "embed_scale"):
            number(name, getattr(self, name), above=0)
        for name in ("local_rope_theta", "attention_softcap", "final_softcap"):
            if getattr(self, name) is not None:
                number(name, getattr(self, name), above=0)
        whole("head_dim", self.head_dim, 1)
        whole("window", self.window, 0)
        require_one_of("activation", self.activation, ACTIVATIONS)
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads is {self.num_heads}; it must be a multiple of num_kv_heads {self.num_kv_heads}"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim is {self.head_dim}; rotary positions need an even one")
        if len(self.layer_types) != self.num_layers:
            raise ValueError(f"layer_types names {len(self.layer_types)} layers; num_layers is {self.num_layers}")
        for index, kind in enumerate(self.layer_types):
            require_one_of(f"layer_types[{index}]", kind, LAYER_TYPES)
        if "sliding" in self.layer_types and self.window < 1:
            raise ValueError(f"window is {self.window}; sliding layers need it ≥ 1")
        if self.rope_scaling is not None:
            self.rope_scaling.validate()
        return self


@dataclasses.dataclass(frozen=True)
class LoRA:
    """Low-rank adaptation of the named modules, y = x W + (α/r) (x A) B (Hu et al. 2021, arXiv 2106.09685, eq. 3)."""

    rank: int
    alpha: float
    targets: tuple[str, ...] = ("q", "k", "v", "o", "gate", "up", "down")

    def validate(self) -> None:
        """Raises ValueError on an unknown target, none at all, a rank below 1, or an α that is not positive."""
        check_fields("lora", self)
        whole("lora.rank", self.rank, 1)
        number("lora.alpha", self.alpha, above=0)
        if not self.targets:
            raise ValueError("lora.targets=(): must name at least one of " + ", ".join(MODULES))
        for target in self.targets:
            require_one_of("lora.targets", target, MODULES)


@dataclasses.dataclass(frozen=True)
class Runtime:
    """How a decoder runs. Apart from rounding (``dtype``) and ``lora``, these fields do not change what is computed.

    ``remat``: what the backward pass recomputes: "none", all of a layer ("full"), or all but matrix products ("dots").
    ``unroll``: layers as a compiled loop ("scan"), or one after another ("unrolled"), which takes longer to compile and
    is sometimes faster. The parameters are the same.
    ``mesh``: the mesh over whose data and fsdp axes rows stay split in every layer, so that weights are gathered to the
    rows; None on one device.
    """

    dtype: str = "float32"
    param_dtype: str = "float32"
    remat: str = "none"
    unroll: str = "scan"
    attention: str = "xla"
    lora: LoRA | None = None
    mesh: Mesh | None = None

    def validate(self) -> "Runtime":
        """Returns itself; raises ValueError naming the field and what is allowed."""
        require_one_of("dtype", self.dtype, DTYPES)
        require_one_of("param_dtype", self.param_dtype, DTYPES)
        require_one_of("remat", self.remat, REMATS)
        require_one_of("unroll", self.unroll, UNROLLS)
        require_one_of("attention", self.attention, ATTENTIONS)
        if self.lora is not None:
            self.lora.validate()
        return self
