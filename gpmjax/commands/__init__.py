"""The ``gpmjax`` command: ``gpmjax train --config=gpm_smollm2 --workdir=runs/gpm`` and its siblings, a module each.

A module of this folder has flags, a docstring that ``--help`` prints, and ``main(arguments)``. The scripts of launch/
run the same modules.
"""

import importlib
import importlib.util
import sys
from pathlib import Path

import jax
from absl import app, flags

from gpmjax.config.overrides import parse_flags
from gpmjax.version import __version__

COMMANDS = {
    "demo": "fit a reward and a preference model to cycles, and compare them",
    "lint": "check a file of preferences",
    "data": "make cyclic preferences",
    "train": "fit a preference model, or train a policy",
    "evaluate": "measure a preference model on a file or a benchmark",
    "diagnose": "tell whether the cycles of a model or of labels are real",
    "answer": "let a policy answer instructions",
    "compare": "compare two policies' answers",
    "sample": "draw responses from a policy",
    "serve": "serve a preference model as a reward",
    "report": "write one HTML page of runs",
    "tables": "fill the paper's tables with runs",
    "plot": "draw a run's pictures",
    "compile": "compile a run for chips that are not here",
    "benchmark": "measure speed beside baselines (in a clone)",
    "doctor": "print versions, devices and caches",
}
WITH_CONFIG = ("train", "compile")
GOOGLE = "0x1ae0"
"""The PCI vendor of TPUs."""


def entry_point() -> None:
    """Runs the command that the first argument names: the ``gpmjax`` of the shell."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h", "help"):
        print(usage())
    elif name == "--version":
        print(__version__)
    elif name in COMMANDS:
        sys.argv = [f"gpmjax {name}", *sys.argv[2:]]
        run(name)
    else:
        sys.exit(f"error: gpmjax {name}: no such command; there are {', '.join(COMMANDS)}")


def usage() -> str:
    """What ``gpmjax --help`` prints.

    >>> print(usage().splitlines()[0])
    Preference models that hold cycles, and policies trained on them.
    """
    width = max(map(len, COMMANDS))
    lines = [f"    gpmjax {name.ljust(width)}  {text}" for name, text in COMMANDS.items()]
    example = "For example: gpmjax train --config=gpm_smollm2 --workdir=runs/gpm"
    title = "Preference models that hold cycles, and policies trained on them."
    return "\n".join([title, "", *lines, "", example, "gpmjax COMMAND --help shows a command's flags and examples."])


def run(name: str) -> None:
    """Runs a command with the flags of ``sys.argv``; does not return."""
    module = importlib.import_module(f"gpmjax.commands.{name}")
    # absl takes the text of --help, and the flags that it lists, from the program that was started.
    sys.modules["__main__"].__doc__ = module.__doc__
    for flag in flags.FLAGS.get_key_flags_for_module(module.__name__):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    if without_tpu(Path("/sys/bus/pci/devices")):
        jax.config.update("jax_platforms", "cpu")
    if "--help" in sys.argv and name not in WITH_CONFIG:
        app.usage(shorthelp=True, writeto_stdout=True)
        sys.exit()
    parser = parse_flags if name in WITH_CONFIG else app.parse_flags_with_usage
    app.run(module.main, flags_parser=parser)


def without_tpu(devices: Path) -> bool:
    """Whether jax would look for TPUs in vain: libtpu is installed, and neither a TPU nor the CUDA plugin is here.

    libtpu prints errors about worker hostnames when it is started on such a machine.

    Args:
      devices: the directory with the PCI devices of this machine.
    """
    if jax.config.jax_platforms or not importlib.util.find_spec("libtpu"):
        return False
    if any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)):
        return False
    vendors = {path.read_text(encoding="utf-8").strip() for path in devices.glob("*/vendor")}
    return GOOGLE not in vendors
