"""Config files: the object that ``get_config()`` of a Python file returns, or one line that says what is wrong with the file."""

import dataclasses
import importlib.machinery
import importlib.util
import traceback
from pathlib import Path
from typing import Any

from gpmjax.config.parts import Experiment

EXPECTED = "a gpmjax.config.Config or gpmjax.config.ImproveConfig"


def load_config(path: str | Path) -> Experiment:
    """The object that ``get_config()`` of the file ``path`` returns; the file may itself build on a `neighbour`.

    What follows a colon in ``path``, as in "sweep.py:small", is given to ``get_config`` as its argument.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file cannot be read, has no ``get_config``, raises an exception, returns something else, or sets a
        field that the config does not have; one line that names the file and, where it is known, the line.
    """
    file, *argument = str(path).split(":", 1)
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: {'is a directory, no' if path.is_dir() else 'no such'} config file")
    name = f"config_{path.stem}"
    spec = importlib.util.spec_from_file_location(
        name, path, loader=importlib.machinery.SourceFileLoader(name, str(path))
    )
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not callable(getattr(module, "get_config", None)):
            raise ValueError(f"{path}: has no function get_config(); it must return {EXPECTED}")
        config = module.get_config(*argument)
    except Exception as error:
        raise _explained(path, error) from error
    if not isinstance(config, Experiment):
        raise ValueError(f"{path}: get_config() returned {_described(config)}; it must return {EXPECTED}")
    if wrong := unknown_field(config):
        raise ValueError(f"{path}: {wrong}")
    return config


def neighbour(own_file: str, name: str) -> Experiment:
    """The config ``name`` beside ``own_file`` (a config's own ``__file__``), to be changed and returned."""
    return load_config(Path(own_file).with_name(name))


def unknown_field(config: Any, name: str = "config") -> str | None:
    """Explains the first attribute that was set on a config although it is no field of it; None when there is none.

    Python lets any attribute be set on a dataclass, so ``config.model.dimm = 4`` would otherwise do nothing, in silence.
    """
    fields = [field.name for field in dataclasses.fields(config)]
    if unknown := [set_ for set_ in vars(config) if set_ not in fields]:
        return f"{name}.{unknown[0]}: no such field; {name} has {', '.join(fields)}"
    parts = ((field, getattr(config, field)) for field in fields)
    found = (unknown_field(part, f"{name}.{field}") for field, part in parts if dataclasses.is_dataclass(part))
    return next(filter(None, found), None)


def _described(value: Any) -> str:
    text = " ".join(repr(value).split())
    return "None" if value is None else f"{text[:60]}{'…' if len(text) > 60 else ''} ({type(value).__name__})"


def _explained(path: Path, error: Exception) -> Exception:
    """The error of a config file's own code, as one line with the place in the file that raised it."""
    text = " ".join(str(error).split())
    if isinstance(error, FileNotFoundError | ValueError) and text.startswith((str(path), str(path.parent))):
        return error  # it names a file already: this one, or a config beside it
    if isinstance(error, SyntaxError):
        place = path if error.lineno is None else f"{path}:{error.lineno}"
        return ValueError(f"{place}: {type(error).__name__}: {error.msg}")
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
    place = f"{path}:{lines[-1]}" if lines else str(path)
    return ValueError(f"{place}: {type(error).__name__}: {text}")
