"""Writes a tokenizer's files into an exported directory, in a form that transformers 4.51 to 5 read."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpmjax.data.chat import DATE
from gpmjax.data.reply_template import ending_at_eos, own_template
from gpmjax.hub.lines import one_line

ORIGINAL_TEMPLATE = "original_chat_template.jinja"
"""File with the model's own chat template, in a preference model's directory whose tokenizer has a changed template.

transformers does not read this file. As a second named template it would make `tokenizer.chat_template` a dict, which
other programs expect to be a string."""
_CONFIG = "tokenizer_config.json"


def read_at_eos(tokenizer: Any, bos_tokens: int = -1) -> Any:
    """The tokenizer, or a copy of it whose chat template ends finished replies at EOS (gpmjax.data.reply_template).

    Args:
        bos_tokens: how many BOS the template writes; −1: as many as the tokenizer's own.
    """
    if tokenizer.eos_token is None:
        return tokenizer
    told = {"eos": tokenizer.eos_token, "date": DATE, "bos": tokenizer.bos_token, "bos_tokens": bos_tokens}
    return _with_templates(tokenizer, lambda template: ending_at_eos(template, **told))


def with_own_template(tokenizer: Any) -> Any:
    """The tokenizer, or a copy of it with the chat template that it had before `read_at_eos`."""
    return _with_templates(tokenizer, own_template)


def _with_templates(tokenizer: Any, change: Callable[[str], str]) -> Any:
    templates = tokenizer.chat_template
    if not templates:
        return tokenizer
    copied = copy.copy(tokenizer)
    if isinstance(templates, dict):
        copied.chat_template = {name: change(template) for name, template in templates.items()}
    else:
        copied.chat_template = change(templates)
    return copied


def write_tokenizer(directory: Path, tokenizer: Any) -> None:
    """Saves the tokenizer; if its chat template was changed by `read_at_eos`, saves its own template beside it.

    Raises:
        OSError: a file could not be written.
    """
    try:
        tokenizer.save_pretrained(directory)
    except Exception as error:  # the tokenizers library raises bare Exception when the disk is full
        raise OSError(f"tokenizer: {one_line(error)}") from error
    file = directory / _CONFIG
    if (directory / "tokenizer.json").is_file():
        config = _readable_by_4(json.loads(file.read_text(encoding="utf-8")))
        file.write_text(json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    templates = tokenizer.chat_template or ""
    template = templates.get("default", "") if isinstance(templates, dict) else templates
    if (own := own_template(template)) != template:
        (directory / ORIGINAL_TEMPLATE).write_text(own, encoding="utf-8")


def _readable_by_4(config: dict[str, Any]) -> dict[str, Any]:
    """tokenizer_config.json with the names that transformers 4 knows too; the tokenizer itself is in tokenizer.json.

    >>> _readable_by_4({"tokenizer_class": "TokenizersBackend", "backend": "fast", "extra_special_tokens": ["<a>"]})
    {'model_input_names': [...], 'tokenizer_class': 'PreTrainedTokenizerFast', 'additional_special_tokens': ['<a>']}
    """
    # By default the generic tokenizer of transformers 4 returns token_type_ids too, which some of its models refuse.
    config = {"model_input_names": ["input_ids", "attention_mask"]} | config
    config.pop("backend", None)
    if "tokenizer_class" in config:
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(config.get("extra_special_tokens"), list):  # in transformers 4, a dict of names
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    return config
