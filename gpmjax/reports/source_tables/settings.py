"""Which model a document is about: what makes two of them comparable, or the same but for the seed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gpmjax.files import using


class Settings(NamedTuple):
    """A model but for its seed."""

    base: str
    """The backbone, or the model's own name where no training summary tells."""
    kind: str
    """"bt", "gpm", "hybrid" or "pairwise"."""
    dim: int
    gate: str
    normalise: str
    head: str
    """"linear", or "mlp" with its hidden widths."""
    objective: str
    question: str = ""
    """What the model is asked about responses; empty: it reads them as replies."""

    @property
    def scalar(self) -> bool:
        """Whether it is a plain Bradley–Terry reward, which others are compared to."""
        return self.kind == "bt" and not self.question


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from error


def trained(path: Path, document: Mapping, remarks: list[str]) -> tuple[Settings, int | str]:
    """Settings of an evaluated model: of the run that made it where its summary lies beside the model, else of its spec."""
    model = str(document["model"])
    summary = Path(model).parent / "summary.json"
    trained = read_json(summary) if summary.is_file() else {}
    if "config" in trained:
        with using(summary, "a fit"):
            settings, seed = of_config(trained["config"])
        return settings, document.get("seed", seed)
    remarks.append(
        f"{path}: no training summary beside its model {model!r}, so base model and seed are taken to be its own name"
    )
    spec = document.get("spec") or document.get("judge", {}).get("spec", {})
    settings = Settings(
        base=model,
        kind=spec.get("kind") or "not said",
        dim=spec.get("dim", 0),
        gate=spec.get("gate", "none"),
        normalise=spec.get("normalise", "none"),
        head=_head(spec),
        objective="",
        question=spec.get("question", ""),
    )
    return settings, document.get("seed", model)


def of_config(config: Mapping) -> tuple[Settings, int]:
    model = config["model"]
    settings = Settings(
        base=model["source"],
        kind=model["kind"],
        dim=model["dim"],
        gate=model["gate"],
        normalise=model["normalise"],
        head=_head(model),
        objective=config["loss"]["objective"],
        question=model.get("question", ""),
    )
    return settings, config["seed"]


def _head(fields: Mapping) -> str:
    return " ".join([fields.get("head", "linear"), *map(str, fields.get("mlp_widths", ()))])
