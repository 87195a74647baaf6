"""Commands of the launchers under launch/pods: run one after the other, or printed as a shell takes them."""

import itertools
import shlex
import subprocess
import sys
from collections.abc import Sequence

Command = Sequence[str]


def perform(commands: Sequence[Command], dry_run: bool, stdin: str = "") -> None:
    """Runs commands in order and exits with the first failure's status; ``dry_run`` prints them instead.

    Args:
      stdin: input of every command; a dry run prints it too.
    """
    for command in commands:
        print(shlex.join(command) + (f" <<'EOF'\n{stdin}EOF" if stdin else ""), flush=True)
        if dry_run:
            continue
        try:
            done = subprocess.run(command, input=stdin or None, encoding="utf-8", check=False)
        except FileNotFoundError:
            sys.exit(f"error: {command[0]}: not installed, or not on PATH")
        if done.returncode:
            sys.exit(done.returncode)


def training(python: str, arguments: Sequence[str], *more: str) -> str:
    """The command that every host runs: launch/train.py with the arguments after ``--``, quoted for a shell.

    Raises ValueError where the arguments name no config, or no work directory.
    """
    for name in ("config", "workdir"):
        if not flag_value(name, arguments):
            raise ValueError(f"after --: --{name}= is missing; give launch/train.py's own arguments there")
    return shlex.join([python, "launch/train.py", *arguments, *more])


def flag_value(name: str, arguments: Sequence[str]) -> str:
    """The value in ``--name=value`` or ``--name value``; empty where the arguments have no such flag.

    >>> flag_value("config", ["--config=a.py"]), flag_value("config", ["--config", "b.py"]), flag_value("workdir", [])
    ('a.py', 'b.py', '')
    """
    for argument, following in itertools.pairwise([*arguments, ""]):
        if argument.startswith(f"--{name}="):
            return argument.partition("=")[2]
        if argument == f"--{name}":
            return following
    return ""
