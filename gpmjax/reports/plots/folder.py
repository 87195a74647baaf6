"""Draws every picture that run folders have the numbers for.

    metrics.jsonl                      learning_curves.png        one curve per folder
    summary.json with a "table"        accuracy.png
    summary.json with "iterations"     improvement.png            of several folders, each under its name
    *.json with a "calibration"        calibration.png            one curve per evaluation, a run's own included
    *.json with a "diagnosis"          cyclic_energy.png          one histogram per diagnosis
                                       spectrum_*.png, subspaces_*.png; of several folders, each under its name
    regularisation.json                regularisation.png         one panel per folder: held-out loss by cycle price
    preferences*.json or .npz          circle_*.png, scores_*.png; of several folders, each under its name

A preferences file holds one group: ``labels`` [K] and ``scores`` [K, K]; for a general preference model also
``embedding`` [K, 2k] and perhaps ``scale`` [k]; for a hybrid also ``reward`` [K]. ``title`` is optional. A
Bradley–Terry model has no embedding, hence no circle.
"""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gpmjax.files import read_json, using
from gpmjax.reports.plots import style
from gpmjax.reports.plots.calibration import calibration_curve
from gpmjax.reports.plots.circle import preference_circle
from gpmjax.reports.plots.comparison import accuracy_bars
from gpmjax.reports.plots.curl_path import curl_path
from gpmjax.reports.plots.curves import learning_curves, read_curves
from gpmjax.reports.plots.energy import cyclic_energy
from gpmjax.reports.plots.improvement import improvement
from gpmjax.reports.plots.matrix import score_matrix
from gpmjax.reports.plots.spectrum import spectrum
from gpmjax.reports.plots.subspaces import subspaces

WRITERS = "a run or an evaluation"


def draw_run(folder: str | Path, *, title: str = "") -> list[Path]:
    """Draws every picture of one run's folder into its subfolder ``plots``."""
    return draw_folders([folder], Path(folder) / "plots", title=title)


def draw_folders(folders: Sequence[str | Path], out: str | Path, *, title: str = "") -> list[Path]:
    """Draws every picture of ``folders`` into the folder ``out``; returns the PNG files written.

    Raises FileNotFoundError when a folder is missing or none of them holds anything to draw.
    """
    folders, out = [Path(folder) for folder in folders], Path(out)
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder")
    written = []
    files = [path for folder in folders if (path := folder / "metrics.jsonl").is_file()]
    runs = {path.parent.name: read_curves(path) for path in files}
    if runs:
        with using(files, WRITERS):
            written.append(style.save(learning_curves(runs, title=title), out / "learning_curves.png"))
    documents = {path: _read_object(path) for folder in folders for path in sorted(folder.glob("*.json"))}
    if tables := [path for path, document in documents.items() if document.get("table")]:
        with using(tables, WRITERS):
            table = [row for path in tables for row in documents[path]["table"]]
            written.append(style.save(accuracy_bars(table, title=title), out / "accuracy.png"))
    for path, document in documents.items():
        if isinstance(document.get("iterations"), list):  # in a config, "iterations" is their number
            name = f"improvement_{path.parent.name}.png" if len(folders) > 1 else "improvement.png"
            with using(path, WRITERS):
                written.append(style.save(improvement(document["iterations"], title=title), out / name))
    if calibrations := _calibrations(documents):
        measured = [path for path, document in documents.items() if document.get("calibration") or document.get("eval")]
        with using(measured, WRITERS):
            written.append(style.save(calibration_curve(calibrations, title=title), out / "calibration.png"))
    with using([path for path, document in documents.items() if document.get("diagnosis")], WRITERS):
        written += draw_diagnoses(documents, out, title=title)
    chosen = {path.parent.name: document for path, document in documents.items() if path.name == "regularisation.json"}
    with using([path for path in documents if path.name == "regularisation.json"], WRITERS):
        if any(document.get("path") for document in chosen.values()):
            written.append(style.save(curl_path(chosen, title=title), out / "regularisation.png"))
    for path in sorted(path for folder in folders for path in folder.glob("preferences*.*")):
        if path.suffix in (".json", ".npz"):
            with using(path, WRITERS):
                # Groups of different folders may have the same numbers.
                written += draw_preferences(path, out / path.parent.name if len(folders) > 1 else out)
    if not written:
        names = ", ".join(map(str, folders))
        raise FileNotFoundError(f"{names}: no metrics.jsonl, table, calibration, diagnosis or preferences to draw")
    return written


def draw_preferences(path: str | Path, out: str | Path) -> list[Path]:
    """Draws the heat map of one preferences file and, when it has embeddings of even dimension, its circle."""
    path, out = Path(path), Path(out)
    group = _read_npz(path) if path.suffix == ".npz" else _read_object(path)
    if missing := [name for name in ("labels", "scores") if name not in group]:
        raise ValueError(f"{path}: no field {missing[0]!r}")
    labels, scores = [str(label) for label in group["labels"]], np.array(group["scores"])
    title = str(group.get("title", ""))
    name = path.stem.removeprefix("preferences").strip("_-") or "preferences"
    written = [style.save(score_matrix(labels, scores, title=title), out / f"scores_{name}.png")]
    embedding = group.get("embedding")
    if embedding is not None and np.shape(embedding)[-1] % 2 == 0:
        parts = {name: group.get(name) for name in ("scale", "reward")}
        circle = preference_circle(labels, np.array(embedding), scores=scores, title=title, **parts)
        written.append(style.save(circle, out / f"circle_{name}.png"))
    return written


def draw_diagnoses(documents: Mapping[Path, Mapping], out: Path, *, title: str = "") -> list[Path]:
    """Draws every picture that the documents' ``diagnosis`` has the numbers for."""
    found = {path: document["diagnosis"] for path, document in documents.items() if document.get("diagnosis")}
    several = len({path.parent for path in documents}) > 1
    named = {
        f"{path.parent.name}_{path.stem}" if several else path.stem: diagnosis for path, diagnosis in found.items()
    }
    written = []
    if any(diagnosis["energy"]["groups"] for diagnosis in named.values()):
        written.append(style.save(cyclic_energy(named, title=title), out / "cyclic_energy.png"))
    for name, diagnosis in named.items():
        if diagnosis.get("gate") or diagnosis.get("blocks"):
            written.append(style.save(spectrum(diagnosis, title=title), out / f"spectrum_{name}.png"))
        if diagnosis.get("aspects") or diagnosis.get("edges"):
            written.append(style.save(subspaces(diagnosis, title=title), out / f"subspaces_{name}.png"))
    return written


def _calibrations(documents: Mapping[Path, Mapping]) -> dict[str, list]:
    """Name → calibration table. The name is an evaluation's file, or a run's folder and evaluation set."""
    tables = {}
    for path, document in documents.items():
        if document.get("calibration"):
            taken = path.stem in tables
            tables[f"{path.parent.name}/{path.stem}" if taken else path.stem] = document["calibration"]
        with using(path, WRITERS):
            for name, figures in document.get("eval", {}).items():
                if figures.get("calibration"):
                    tables[f"{path.parent.name}, {Path(name).name}"] = figures["calibration"]
    return tables


def _read_object(path: Path) -> Mapping:
    """The object in a JSON file; an empty one where the file holds another value."""
    document = read_json(path)
    return document if isinstance(document, dict) else {}


def _read_npz(path: Path) -> Mapping:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not an .npz file ({error})") from error
