"""A tokenizer's files in an exported directory, such that transformers 4.51 to 5 reads them."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpmjax.data.chat import DATE
from gpmjax.data.reply_template import ending_at_eos, own_template
from gpmjax.hub.lines import one_line

ORIGINAL_TEMPLATE = "original_chat_template.jinja"
"""The model's own chat template, in the directory of a preference model whose tokenizer writes replies another way.

A file that transformers does not read: as a second named template it would turn `tokenizer.chat_template` into a dict, which other
programs take for a string."""
_CONFIG = "tokenizer_config.json"


def read_at_eos(tokenizer: Any, bos_tokens: int = -1) -> Any:
    """The tokenizer, or a copy of it whose chat template ends finished replies at EOS (gpmjax.data.reply_template).

    Args:
        bos_tokens: how many BOS the template writes; −1: as many as its own does.
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
    """Saves the tokenizer; and its own chat template beside it, where it writes replies by another.

    Raises:
        OSError: a file could not be written.
    """
    try:
        tokenizer.save_pretrained(directory)
    except Exception as error:  # bare Exception is how the tokenizers library reports a full disk
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
    """tokenizer_config.json in words that transformers 4 has too; the tokenizer itself is tokenizer.json.

    >>> _readable_by_4({"tokenizer_class": "TokenizersBackend", "backend": "tokenizers", "extra_special_tokens": ["<a>"]})
    {'model_input_names': [...], 'tokenizer_class': 'PreTrainedTokenizerFast', 'additional_special_tokens': ['<a>']}
    """
    # The general tokenizer of transformers 4 gives token_type_ids too unless told, which some of its models refuse.
    config = {"model_input_names": ["input_ids", "attention_mask"]} | config
    config.pop("backend", None)
    if "tokenizer_class" in config:
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(config.get("extra_special_tokens"), list):  # in transformers 4, a dict of names
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    return config
