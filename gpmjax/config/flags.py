"""`judge_flags` makes a flag of every field of `JudgeConfig`; the help of a flag is the field's docstring."""

import dataclasses
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any

from absl import flags

from gpmjax.config.help import field_texts
from gpmjax.config.judge import CHOICES, DECLARED, RANGES, JudgeConfig
from gpmjax.models.spec import TAU_RANGE

FLAG_NAMES = {"rows": "rows_per_batch"}
"""Flags that are called otherwise than the field they set."""


def judge_flags(
    *,
    names: Mapping[str, str] | None = None,
    without: Collection[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> Callable[[], JudgeConfig]:
    """Defines a flag for every field of a `JudgeConfig`.

    Args:
      names: flags that are called otherwise than `FLAG_NAMES` and the fields say, by field.
      without: fields that get no flag.
      defaults: defaults that differ from the dataclass's.

    Returns:
      What the flags say, once they are parsed.
    """
    names, defaults, texts = FLAG_NAMES | dict(names or {}), dict(defaults or {}), field_texts(JudgeConfig)
    holders = {
        field.name: _define(names.get(field.name, field.name), field, defaults, texts[field.name].text)
        for field in dataclasses.fields(JudgeConfig)
        if field.name not in without
    }
    for holder in holders.values():  # so that the program's --help shows them
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[holder.name])

    def read() -> JudgeConfig:
        given: dict[str, Any] = {name: holder.value for name, holder in holders.items()}
        given = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items() if v is not None}
        return JudgeConfig(**given)

    return read


def _define(flag: str, field: dataclasses.Field, defaults: Mapping[str, Any], doc: str) -> flags.FlagHolder:
    default = defaults.get(field.name, field.default)
    if field.name in DECLARED:  # None, not given, is no declaration
        default, choices = None, DECLARED[field.name]
    else:
        choices = CHOICES.get(field.name)
    if field.name == "bos_tokens" and choices:
        return flags.DEFINE_integer(flag, default, doc, min(choices), max(choices))
    if choices:
        return flags.DEFINE_enum(flag, default, choices, doc)
    if isinstance(field.default, tuple):
        return flags.DEFINE_list(flag, default, doc)
    if isinstance(field.default, str):
        return flags.DEFINE_string(flag, default, doc)
    least, most = RANGES.get(field.name, TAU_RANGE)
    define = flags.DEFINE_integer if isinstance(field.default, int) else flags.DEFINE_float
    return define(flag, default, doc, least, most)
