"""The settings of a document's model. Two results of equal settings differ in their seed alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from gpmjax.files import read_json, using


class ModelSettings(NamedTuple):
    """The settings of a trained model without its seed."""

    base: str
    """The backbone, or the model's own name where no training summary names the backbone."""
    kind: str
    """"bt", "gpm", "hybrid" or "pairwise"."""
    dim: int
    gate: str
    normalise: str
    head: str
    """"linear", or "mlp" with its hidden widths."""
    objective: str
    question: str = ""
    """The question that the model is asked about a response; empty when the model reads the response as a reply."""

    @property
    def scalar(self) -> bool:
        """Whether the model is a plain Bradley–Terry reward, the baseline of the others."""
        return self.kind == "bt" and not self.question


def evaluated_settings(path: Path, document: Mapping, remarks: list[str]) -> tuple[ModelSettings, int | str]:
    """Settings and seed of an evaluated model.

    They are those of the fit that made it, where the fit's summary lies beside the model, else those of the model's
    spec.
    """
    model = str(document["model"])
    summary = Path(model).parent / "summary.json"
    fit = read_json(summary) if summary.is_file() else {}
    if "config" in fit:
        with using(summary, "a fit"):
            settings, seed = config_settings(fit["config"])
        return settings, document.get("seed", seed)
    remarks.append(
        f"{path}: no training summary beside its model {model!r}, so base model and seed are taken to be its own name"
    )
    spec = document.get("spec") or document.get("judge", {}).get("spec", {})
    known = {"dim": 0, "gate": "none", "normalise": "none"} | spec | {"kind": spec.get("kind") or "not said"}
    return _settings(known, model, ""), document.get("seed", model)


def config_settings(config: Mapping) -> tuple[ModelSettings, int]:
    """Settings and seed of a fit's config."""
    model = config["model"]
    return _settings(model, model["source"], config["loss"]["objective"]), config["seed"]


def _settings(fields: Mapping, base: str, objective: str) -> ModelSettings:
    own = {name: fields[name] for name in ("kind", "dim", "gate", "normalise")}
    head = " ".join([fields.get("head", "linear"), *map(str, fields.get("mlp_widths", ()))])
    return ModelSettings(base, **own, head=head, objective=objective, question=fields.get("question", ""))
