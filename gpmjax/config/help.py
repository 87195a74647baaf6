"""The text that ``--help`` shows: every field of a config with its type, its value, and the docstring below it."""

import ast
import dataclasses
import functools
import inspect
import sys
import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple

from gpmjax.config.parts import Experiment

WIDTH = 100


class FieldText(NamedTuple):
    """What the source of a dataclass says of one of its fields."""

    kind: str
    """The annotation, such as "tuple[str, ...]"."""
    text: str
    """The docstring below the field, on one line; a field with another class's default has that class's docstring."""


@functools.cache
def field_texts(cls: type) -> dict[str, FieldText]:
    """The text of every field of a dataclass, inherited fields included; an empty docstring where there is none.

    >>> from gpmjax.config import MeshConfig
    >>> field_texts(MeshConfig)["data"].kind
    'int'
    """
    found: dict[str, FieldText] = {}
    names = {field.name for field in dataclasses.fields(cls)}
    for base in reversed(cls.__mro__[1:]):
        found |= field_texts(base) if dataclasses.is_dataclass(base) else {}
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(definition, ast.ClassDef)
    for node, after in zip(definition.body, [*definition.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id in names:
            text = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                text = " ".join(str(after.value.value).split())
            elif isinstance(node.value, ast.Attribute) and isinstance(node.value.value, ast.Name):
                origin = vars(sys.modules[cls.__module__])[node.value.value.id]
                text = field_texts(origin)[node.value.attr].text
            found[node.target.id] = FieldText(ast.unparse(node.annotation), text)
    return found


def config_help(config: Experiment, name: str = "config") -> str:
    """One paragraph for each field: its flag, type and value, the class's default where another value is set, and its
    text.

    >>> from gpmjax.config import Config
    >>> print(config_help(Config(seed=3))[:61])
    --config.seed: int = 3 (default 0)
        Seed of the heads, of
    """
    return "\n".join(_paragraphs(config, type(config)(), f"--{name}"))


def _paragraphs(config: Any, default: Any, flag: str) -> Iterator[str]:
    for name, (kind, text) in field_texts(type(config)).items():
        value, usual = getattr(config, name), getattr(default, name)
        if dataclasses.is_dataclass(value):
            yield f"\n{flag}.{name}: {inspect.getdoc(type(value))}"
            yield from _paragraphs(value, type(value)() if type(value) is not type(usual) else usual, f"{flag}.{name}")
        else:
            yield f"{flag}.{name}: {kind} = {value!r}" + (f" (default {usual!r})" if value != usual else "")
            if text:
                yield textwrap.fill(text, WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 4)
