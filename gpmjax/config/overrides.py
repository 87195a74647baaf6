"""The command line of a program that takes ``--config=FILE`` and overrides such as ``--config.model.dim=4``.

What cannot be used ends the program with one line, before any flag is used: no config, a file that gives none, a misspelt field.
"""

import dataclasses
import sys
from collections.abc import Sequence

from absl import app

from gpmjax.config import Experiment, load_config

NEEDED = "error: --config is needed: a file with get_config(), such as configs/demo.py"


def unknown_override(config: Experiment, flag: str) -> str | None:
    """Explains a flag such as ``--config.model.dimm=4`` that names no field; None when it names one.

    >>> from gpmjax.config import Config
    >>> unknown_override(Config(), "--config.mesh.dato=2")
    '--config.mesh.dato: no such field; config.mesh has data, fsdp, tensor, dcn_data, dcn_fsdp'
    """
    path = flag.split("=")[0].lstrip("-").split(".")
    holder = config
    for depth, name in enumerate(path[1:], start=1):
        names = [f.name for f in dataclasses.fields(holder)] if dataclasses.is_dataclass(holder) else []
        if name not in names:
            return f"--{'.'.join(path)}: no such field; {'.'.join(path[:depth])} has {', '.join(names) or 'no fields'}"
        holder = getattr(holder, name)
    return None


def config_path(arguments: Sequence[str]) -> str | None:
    """The value of ``--config`` in a command line; the last one counts, None where there is none.

    >>> config_path(["launch/train.py", "-config", "a.py", "--workdir=runs"]), config_path(["--config=a.py", "--config=b.py"])
    ('a.py', 'b.py')
    """
    found = None
    for argument, following in zip(arguments, [*arguments[1:], None], strict=True):
        if argument == "--":
            break
        name, equals, value = argument.partition("=")
        if name in ("--config", "-config"):
            found = value if equals else following
    return found


def parse_flags(arguments: Sequence[str]) -> list[str]:
    """Flags as absl parses them, after a look at the config file and at the fields that the command line names."""
    if any(
        argument.lstrip("-").split("=")[0] in ("help", "helpfull", "helpshort", "helpxml") for argument in arguments[1:]
    ):
        return app.parse_flags_with_usage(list(arguments))
    path = config_path(arguments)
    if not path:
        sys.exit(NEEDED)
    try:
        config = load_config(path)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    overrides = [argument for argument in arguments if argument.startswith(("--config.", "-config."))]
    explained = [text for text in (unknown_override(config, flag) for flag in overrides) if text]
    if explained:
        sys.exit(f"error: {explained[0]}")
    return app.parse_flags_with_usage(list(arguments))
