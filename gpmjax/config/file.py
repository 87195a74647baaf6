"""Config files: reads the object that ``get_config()`` of a Python file returns, or says in one line what is wrong."""

import dataclasses
import importlib
import importlib.machinery
import importlib.metadata
import sys
import traceback
import types
from pathlib import Path
from typing import Any

from gpmjax.config.parts import Experiment

EXPECTED = "a gpmjax.config.Config or gpmjax.config.ImproveConfig"
RENAMED = {
    "gpmjax.config_file": "gpmjax.config.file",
    "gpmjax.config_parts": "gpmjax.config.parts",
    "gpmjax.improve_config": "gpmjax.config.improve",
    "gpmjax.overrides": "gpmjax.config.overrides",
}
"""Modules that config files import under their former names."""


def load_config(path: str | Path) -> Experiment:
    """The object that ``get_config()`` of the file ``path`` returns; the file may itself build on a `neighbour`.

    A bare name such as "gpm_smollm2" is a config that comes with the package. What follows a colon in ``path``, as in
    "sweep.py:small", is given to ``get_config`` as its argument. An import of a module by its former name works, and a
    line on stderr says the new name.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file cannot be read, has no ``get_config``, raises an exception, returns something else, or sets a
        field that the config does not have. The message is one line with the file's name and, where known, the line.
    """
    file, *argument = str(path).split(":", 1)
    path = named_config(file)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: {'is a directory, no' if path.is_dir() else 'no such'} config file")
    try:
        module = _executed(path)
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


def named_config(name: str) -> Path:
    """The file of a config: ``name`` itself where it is a path, else the shipped config of that name.

    >>> named_config("gpm_smollm2").name, named_config("runs/mine.py").name
    ('gpm_smollm2.py', 'mine.py')
    """
    directory = config_directory()
    if Path(name).exists() or Path(name).name != name or directory is None:
        return Path(name)
    shipped = directory / f"{name.removesuffix('.py')}.py"
    return shipped if shipped.is_file() else Path(name)


def config_directory() -> Path | None:
    """The directory of the configs that come with the package: of the clone, or of the installed wheel."""
    clone = Path(__file__).parents[2] / "configs"
    if (clone / "demo.py").is_file():
        return clone
    try:
        files = importlib.metadata.files("gpmjax") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = (Path(str(file.locate())).resolve().parent for file in files if file.match("gpmjax/configs/demo.py"))
    return next(found, None)


def neighbour(own_file: str, name: str) -> Experiment:
    """The config ``name`` beside ``own_file`` (a config's own ``__file__``), to be changed and returned."""
    return load_config(Path(own_file).with_name(name))


def unknown_field(config: Any, name: str = "config") -> str | None:
    """Explains the first attribute of a config that is not one of its fields; None when there is none.

    Python lets any attribute be set on a dataclass, so ``config.model.dimm = 4`` would otherwise do nothing.
    """
    fields = [field.name for field in dataclasses.fields(config)]
    if unknown := [set_ for set_ in vars(config) if set_ not in fields]:
        return f"{name}.{unknown[0]}: no such field; {name} has {', '.join(fields)}"
    parts = ((field, getattr(config, field)) for field in fields)
    found = (unknown_field(part, f"{name}.{field}") for field, part in parts if dataclasses.is_dataclass(part))
    return next(filter(None, found), None)


def _executed(path: Path) -> types.ModuleType:
    """Runs the file as a module. An import by a former name is reported, and served by the module's new name."""
    loader = importlib.machinery.SourceFileLoader(f"config_{path.stem}", str(path))
    module = types.ModuleType(loader.name)
    module.__file__ = str(path)
    try:
        loader.exec_module(module)
    except ModuleNotFoundError as error:
        if error.name not in RENAMED:
            raise
        print(f"{path}: {error.name} is now {RENAMED[error.name]}", file=sys.stderr)
        sys.modules[error.name] = importlib.import_module(RENAMED[error.name])
        return _executed(path)
    return module


def _described(value: Any) -> str:
    text = " ".join(repr(value).split())
    return "None" if value is None else f"{text[:60]}{'…' if len(text) > 60 else ''} ({type(value).__name__})"


def _explained(path: Path, error: Exception) -> Exception:
    """Turns an error of a config file's own code into one line with the place in the file that raised it."""
    text = " ".join(str(error).split())
    if isinstance(error, FileNotFoundError | ValueError) and text.startswith((str(path), str(path.parent))):
        return error  # the message names a file already: this one, or a config beside it
    if isinstance(error, SyntaxError):
        place = path if error.lineno is None else f"{path}:{error.lineno}"
        return ValueError(f"{place}: {type(error).__name__}: {error.msg}")
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
    place = f"{path}:{lines[-1]}" if lines else str(path)
    return ValueError(f"{place}: {type(error).__name__}: {text}")
