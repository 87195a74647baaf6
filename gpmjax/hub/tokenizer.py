"""Tokenizers, from a directory or from the metadata of a GGUF file; nothing here needs torch.

transformers can convert a GGUF tokenizer itself, but leaves out SmolLM's digit splitting, so that numbers would be
cut as they never were in training. The tokenizer is therefore built here, part by part.
"""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from gpmjax.hub.lines import one_line
from gpmjax.hub.spm import CONTROL, USER_DEFINED, spm_tokenizer, text_tokens

DIRECTORY_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")

# As in Llama 3 and Qwen, which differ in how many digits go together.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}"
    r"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class _Split(NamedTuple):
    """How text is cut before byte-pair merges; digits is a pattern, or None for SmolLM's one by one."""

    digits: str | None
    nfc: bool
    """Unicode is composed first."""
    ignore_merges: bool
    adds_bos: bool
    """What applies when the file does not say."""


_SPLITS = {
    "smollm": _Split(digits=None, nfc=False, ignore_merges=False, adds_bos=False),
    "qwen2": _Split(digits=r"\p{N}", nfc=True, ignore_merges=False, adds_bos=False),
    "llama-bpe": _Split(digits=r"\p{N}{1,3}", nfc=False, ignore_merges=True, adds_bos=True),
}


def directory_tokenizer(directory: Path):
    """The tokenizer saved in a Hugging Face directory.

    Raises:
        FileNotFoundError: there is none.
        ValueError: there is one that cannot be read.
    """
    from transformers import (
        AutoTokenizer,
        PreTrainedTokenizerFast,
    )  # imports torch where it is installed, so not before it is wanted

    if not any((directory / name).is_file() for name in DIRECTORY_FILES):
        raise FileNotFoundError(f"{directory}: no tokenizer, looked for {', '.join(DIRECTORY_FILES)}")
    try:
        # AutoTokenizer builds some families' tokenizers anew, whatever tokenizer.json says: Qwen 2's with Qwen's way of cutting words.
        reader = PreTrainedTokenizerFast if _is_generic(directory) else AutoTokenizer
        # A directory may bring Python of its own ("auto_map"). It is never run, and nobody is asked whether it should be.
        return reader.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare Exception on a damaged file
        raise ValueError(f"{directory}: the tokenizer cannot be read ({one_line(error)})") from error


def _is_generic(directory: Path) -> bool:
    """Whether all of the tokenizer is in tokenizer.json, and no class adds to it."""
    file = directory / "tokenizer_config.json"
    if not file.is_file() or not (directory / "tokenizer.json").is_file():
        return False
    said = json.loads(file.read_text(encoding="utf-8"))
    return said.get("tokenizer_class") in ("PreTrainedTokenizerFast", "TokenizersBackend") and "auto_map" not in said


def gguf_tokenizer(metadata: Mapping[str, Any], label: str):
    """The tokenizer that a GGUF file's metadata describes, with chat template and special tokens.

    "gpt2" is byte-level BPE, "llama" a SentencePiece vocabulary (gpmjax.hub.spm).

    Args:
        metadata: the file's `tokenizer.*` keys.
        label: the file, for messages.

    Raises:
        ValueError: another kind of tokenizer, or another way of cutting words, than those known here; a part is missing.
    """
    from transformers import PreTrainedTokenizerFast  # see directory_tokenizer

    kind = metadata.get("tokenizer.ggml.model")
    if kind not in ("gpt2", "llama"):
        raise ValueError(
            f"{label}: tokenizer.ggml.model is {kind!r}; allowed: 'gpt2', 'llama' (--tokenizer takes another from a directory)"
        )
    _require_parts(metadata, ("tokens", "token_type", "merges" if kind == "gpt2" else "scores"), label)
    if kind == "gpt2":
        tokenizer, adds_bos = _byte_level(metadata, label)
        tokens = metadata["tokenizer.ggml.tokens"]
    else:
        tokenizer, adds_bos, tokens = spm_tokenizer(metadata, label), True, text_tokens(metadata)
    types = metadata["tokenizer.ggml.token_type"]
    of_type = lambda wanted: [token for token, found in zip(tokens, types, strict=True) if found == wanted]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in of_type(CONTROL)])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in of_type(USER_DEFINED)])

    special = {
        name: tokens[metadata[f"tokenizer.ggml.{key}_token_id"]]
        for name, key in (
            ("bos_token", "bos"),
            ("eos_token", "eos"),
            ("pad_token", "padding"),
            ("unk_token", "unknown"),
        )
        if f"tokenizer.ggml.{key}_token_id" in metadata
    }
    adds = {
        "bos_token": metadata.get("tokenizer.ggml.add_bos_token", adds_bos),
        "eos_token": metadata.get("tokenizer.ggml.add_eos_token", False),
    }
    bos, eos = (special.get(name, "") if adds[name] else "" for name in adds)
    if bos or eos:
        one = f"{bos} $A {eos}".strip()
        tokenizer.post_processor = processors.TemplateProcessing(
            single=one,
            pair=f"{one} {one.replace('$A', '$B')}",
            special_tokens=[(token, tokenizer.token_to_id(token)) for token in (bos, eos) if token],
        )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **special)
    wrapped.chat_template = metadata.get("tokenizer.chat_template")
    return wrapped


def _require_parts(metadata: Mapping[str, Any], names: tuple[str, ...], label: str) -> None:
    for name in names:
        if not isinstance(metadata.get(f"tokenizer.ggml.{name}"), list):
            raise ValueError(
                f"{label}: tokenizer.ggml.{name} is missing (--tokenizer takes a tokenizer from a directory)"
            )
    count = len(metadata["tokenizer.ggml.tokens"])
    for name in names[1:]:
        if name != "merges" and len(metadata[f"tokenizer.ggml.{name}"]) != count:
            given = len(metadata[f"tokenizer.ggml.{name}"])
            raise ValueError(
                f"{label}: tokenizer.ggml.{name} has {given} entries; allowed: one for each of the {count} tokens"
            )
    for name in ("bos", "eos", "padding", "unknown"):
        place = metadata.get(f"tokenizer.ggml.{name}_token_id", 0)
        if not 0 <= place < count:
            raise ValueError(f"{label}: tokenizer.ggml.{name}_token_id is {place}; allowed: one of the {count} tokens")


def _byte_level(metadata: Mapping[str, Any], label: str) -> tuple[Tokenizer, bool]:
    """Byte-level BPE, and whether it begins texts with BOS unless the file says otherwise."""
    cut = metadata.get("tokenizer.ggml.pre")
    if cut not in _SPLITS:
        raise ValueError(
            f"{label}: tokenizer.ggml.pre is {cut!r}; allowed: {', '.join(map(repr, _SPLITS))} "
            "(--tokenizer takes a tokenizer from a directory)"
        )
    split = _SPLITS[cut]
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    vocabulary = {token: position for position, token in enumerate(metadata["tokenizer.ggml.tokens"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=split.ignore_merges))
    tokenizer.pre_tokenizer = _pre_tokenizer(split)
    if split.nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, split.adds_bos


def with_own_pad(tokenizer: Any, rows: int | None = None):
    """The tokenizer, or a copy of it that pads with another token than it ends sequences with, one of ``rows`` where they are said.

    A Hugging Face classifier finds the last token by looking for what is not padding; if that is EOS, it looks too far left.
    The new padding token is a special one that nothing else uses, since the embedding has no row for an invented one.

    Raises:
        ValueError: no special token is free.
    """
    known = len(tokenizer) if rows is None else rows
    if tokenizer.pad_token_id not in (None, tokenizer.eos_token_id) and tokenizer.pad_token_id < known:
        return tokenizer
    template = str(tokenizer.chat_template or "")
    free = [
        token.content
        for number, token in sorted(tokenizer.added_tokens_decoder.items())
        if token.special
        and number < known
        and token.content not in (tokenizer.eos_token, tokenizer.bos_token)
        and token.content not in template
    ]
    if not free:
        raise ValueError(
            f"tokenizer pads with its EOS token {tokenizer.eos_token!r}, and has no other special token to spare"
        )
    # A token made for padding if there is one, then the unknown token, then whichever comes first.
    best = min(free, key=lambda token: ("pad" not in token, token != tokenizer.unk_token))
    copied = copy.deepcopy(tokenizer)
    copied.pad_token = best
    return copied


def _pre_tokenizer(split: _Split):
    if split.digits is None:
        return pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    words = Regex(_WORDS.format(digits=split.digits))
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
