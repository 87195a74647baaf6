"""The peer: the fit step in transformers and torch, as TRL, OpenRLHF and the GPM authors run it.

Chosen and rejected sequences are concatenated along the batch and padded on the right. Attention is torch's sdpa, and
the optimiser its fused AdamW. Weights are loaded from gpmjax's Hugging Face export, so both contenders start equal.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import transformers
from safetensors import safe_open

from gpmjax.data.encode import EncodedGroup
from gpmjax.models.spec import PreferenceSpec

GATES = {
    "softmax": lambda logits, width: torch.softmax(logits, -1),
    "scaled_softmax": lambda logits, width: logits.shape[-1] * torch.softmax(logits / width**0.5, -1),
    "sigmoid": lambda logits, width: torch.sigmoid(logits),
    "softplus": lambda logits, width: torch.nn.functional.softplus(logits),
}


class PairRows(NamedTuple):
    """2N padded sequences as numpy arrays: N chosen ones, then the N rejected ones they are compared with."""

    tokens: np.ndarray
    """[2N, T] int64."""
    mask: np.ndarray
    """[2N, T] int64, 1 on tokens."""
    response_end: np.ndarray
    """[2N] int64 index of a sequence's last token."""
    prompt_end: np.ndarray
    """[2N] int64 index of its prompt's last token."""

    @property
    def real(self) -> int:
        """Number of tokens that are not padding."""
        return int(self.mask.sum())


def pair_rows(groups: Sequence[EncodedGroup], slots: int = 0) -> PairRows:
    """Every comparison of ``groups`` as two separate sequences, padded to ``slots`` or to the longest sequence."""
    sides = [
        group.sequence(side)
        for name in ("chosen", "rejected")
        for group in groups
        for side in (getattr(comparison, name) for comparison in group.comparisons)
    ]
    lengths = np.array([len(prompt) + len(response) for prompt, _, response in sides])
    slots = slots or int(lengths.max())
    if lengths.max() > slots:
        raise ValueError(f"a sequence has {lengths.max()} tokens, a row {slots} slots")
    tokens = np.zeros((len(sides), slots), np.int64)
    for row, (prompt, _, response) in zip(tokens, sides, strict=True):
        row[: len(prompt) + len(response)] = np.concatenate([prompt, response])
    mask = (np.arange(slots) < lengths[:, None]).astype(np.int64)
    return PairRows(tokens, mask, lengths - 1, np.array([end for _, end, _ in sides], np.int64))


class TorchPeer(torch.nn.Module):
    """Backbone, value head and gate of a model directory that ``gpmjax.hub.save_preference_model`` wrote."""

    def __init__(self, directory: str | Path):
        super().__init__()
        directory = Path(directory)
        self.backbone = transformers.AutoModel.from_pretrained(
            directory, dtype=torch.float32, attn_implementation="sdpa"
        )
        self.backbone.config.use_cache = False
        self.spec = PreferenceSpec.from_dict(
            json.loads((directory / "config.json").read_text(encoding="utf-8"))["gpmjax"]
        )
        if self.spec.head != "linear" or self.spec.tau_mode != "fixed":
            raise ValueError(f"{directory}: the peer has linear heads and a fixed τ, the model {self.spec}")
        heads = {}
        for path in directory.glob("*.safetensors"):
            with safe_open(path, framework="pt") as tensors:
                names = tensors.keys()
                heads |= {name: tensors.get_tensor(name) for name in names if "head.weight" in name}
        heads.pop("lm_head.weight", None)
        self.heads = torch.nn.ParameterDict(
            {name.removesuffix(".weight"): torch.nn.Parameter(value) for name, value in heads.items()}
        )

    def scores(self, rows: PairRows) -> torch.Tensor:
        """s(chosen ≻ rejected) [N]."""
        tokens, mask, response_end, prompt_end = (torch.from_numpy(array) for array in rows)
        hidden = self.backbone(tokens, attention_mask=mask).last_hidden_state
        each = torch.arange(len(tokens))
        value = hidden[each, response_end] @ self.heads["value_head"].T
        if self.spec.normalise == "l2":
            value = torch.nn.functional.normalize(value, dim=-1)
        chosen, rejected = value.chunk(2)
        if self.spec.kind == "bt":
            return (chosen - rejected)[:, 0]
        (a, b), (c, d) = (side.unflatten(-1, (-1, 2)).unbind(-1) for side in (chosen, rejected))
        block = a * d - b * c  # ⟨R v_i, v_j⟩ of each block, with R = [[0, −1], [1, 0]]
        if self.spec.gate == "none":
            return block.sum(-1)
        logits = hidden[each, prompt_end][: len(chosen)] @ self.heads["prompt_head"].T
        return (GATES[self.spec.gate](logits, hidden.shape[-1]) * block).sum(-1)

    def loss(self, rows: PairRows) -> torch.Tensor:
        """Mean −log σ(s/τ)."""
        return -torch.nn.functional.logsigmoid(self.scores(rows) / self.spec.tau).mean()

    def named_gradients(self) -> dict[str, np.ndarray]:
        """Gradients of the last loss, by the tensors' names in the model directory."""
        found = {f"{name}.weight": parameter.grad for name, parameter in self.heads.items()}
        found |= {f"model.{name}": parameter.grad for name, parameter in self.backbone.named_parameters()}
        return {name: gradient.numpy() for name, gradient in found.items() if gradient is not None}


class Trainer:
    """A full update: loss, gradients, clipping, AdamW."""

    def __init__(
        self, model: torch.nn.Module, *, learning_rate: float, b1: float, b2: float, eps: float, clip_norm: float
    ):
        self.model, self._clip = model, clip_norm
        self._optimizer = torch.optim.AdamW(
            model.parameters(), lr=learning_rate, betas=(b1, b2), eps=eps, weight_decay=0.0, fused=True
        )

    def step(self, rows: PairRows) -> float:
        """One update; returns the loss before it."""
        self._optimizer.zero_grad(set_to_none=True)
        loss = self.model.loss(rows)
        loss.backward()
        self.update()
        return loss.item()

    def update(self) -> None:
        """Clips the gradients and updates the parameters."""
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._clip)
        self._optimizer.step()
