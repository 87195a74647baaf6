"""The command line of a program that takes ``--config=FILE`` and overrides such as ``--config.model.dim=4``.

A missing config, a file without one, or a misspelt field ends the program with one line before any flag takes effect.
"""

import dataclasses
import sys
from collections.abc import Sequence

from absl import app, flags

from gpmjax.config import Config, Experiment, ImproveConfig, load_config
from gpmjax.config.file import named_config
from gpmjax.config.help import config_help

NEEDED = "error: --config is needed: a file with get_config(), such as configs/demo.py, or a shipped config's name"


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

    >>> config_path(["launch/train.py", "-config", "a.py", "--workdir=runs"])
    'a.py'
    >>> config_path(["--config=a.py", "--config=b.py"])
    'b.py'
    """
    found = None
    for argument, following in zip(arguments, [*arguments[1:], None], strict=True):
        if argument == "--":
            break
        name, equals, value = argument.partition("=")
        if name in ("--config", "-config"):
            found = value if equals else following
    return found


def with_the_file(arguments: Sequence[str], path: str) -> list[str]:
    """The arguments with the file of the config in the place of its name, which ml_collections reads itself."""
    name, colon, argument = path.partition(":")
    file = f"{named_config(name)}{colon}{argument}"
    flag = ("--config=", "-config=")
    return [
        f"--config={file}" if text == f"{text.partition('=')[0]}={path}" and text.startswith(flag)
        else file if text == path and before in ("--config", "-config")
        else text
        for before, text in zip([None, *arguments], arguments, strict=False)
    ]  # fmt: skip


def parse_flags(arguments: Sequence[str]) -> list[str]:
    """Flags as absl parses them, once the config file and the fields that the command line names are known to be sound.

    ``--help`` prints the program's flags and every field of the config, or of both kinds of config without a file.
    """
    options = [argument.lstrip("-").split("=")[0] for argument in arguments[1:] if argument.startswith("-")]
    if {"helpfull", "helpshort", "helpxml"} & set(options):
        return app.parse_flags_with_usage(list(arguments))
    path = config_path(arguments)
    if not path and "help" not in options:
        sys.exit(NEEDED)
    try:
        configs = {path: load_config(path)} if path else {"a preference model": Config(), "a policy": ImproveConfig()}
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    if "help" in options:
        app.usage(shorthelp=True, writeto_stdout=True)
        for name, config in configs.items():
            print(f"\nFields of {name} ({type(config).__name__}):\n\n{config_help(config)}")
        sys.exit()
    (config,) = configs.values()
    arguments = [*arguments[:1], *with_the_file(arguments[1:], path or "")]
    overrides = [argument for argument in arguments if argument.startswith(("--config.", "-config."))]
    explained = [text for text in (unknown_override(config, flag) for flag in overrides) if text]
    if explained:
        sys.exit(f"error: {explained[0]}")
    try:
        return flags.FLAGS(list(arguments))
    except flags.Error as error:
        sys.exit("error: " + " ".join(str(error).removeprefix("flag ").split()))
