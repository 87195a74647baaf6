"""Builds tokenizers from a directory or from the metadata of a GGUF file, without torch.

transformers can convert a GGUF tokenizer itself, but omits SmolLM's digit splitting, so numbers would be split
differently than in training. So the tokenizer is built here from its parts.
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
_SPECIAL = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}

# The word pattern of Llama 3 and Qwen, which differ in how many digits form a word.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}"
    r"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class _Split(NamedTuple):
    """How text is split before byte-pair merges."""

    digits: str | None
    """Pattern of digits that form a word; None splits digits one by one, with SmolLM's rules."""
    nfc: bool
    """Whether Unicode is composed (NFC) first."""
    ignore_merges: bool
    """Whether a word in the vocabulary is one token whatever the merges."""
    adds_bos: bool
    """Whether texts begin with BOS if the file does not say."""


_SPLITS = {
    "smollm": _Split(digits=None, nfc=False, ignore_merges=False, adds_bos=False),
    "qwen2": _Split(digits=r"\p{N}", nfc=True, ignore_merges=False, adds_bos=False),
    "llama-bpe": _Split(digits=r"\p{N}{1,3}", nfc=False, ignore_merges=True, adds_bos=True),
}


def directory_tokenizer(directory: Path):
    """The tokenizer saved in a Hugging Face directory.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the tokenizer cannot be read.
    """
    # Imported here, because it imports torch where that is installed.
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if not any((directory / name).is_file() for name in DIRECTORY_FILES):
        raise FileNotFoundError(f"{directory}: no tokenizer, looked for {', '.join(DIRECTORY_FILES)}")
    try:
        # For some families AutoTokenizer ignores parts of tokenizer.json: Qwen 2's tokenizers get Qwen's word pattern.
        reader = PreTrainedTokenizerFast if _is_generic(directory) else AutoTokenizer
        # A directory may contain Python code ("auto_map"). It is never run, and the user is not asked about it.
        return reader.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare Exception on a damaged file
        raise ValueError(f"{directory}: the tokenizer cannot be read ({one_line(error)})") from error


def _is_generic(directory: Path) -> bool:
    """Whether tokenizer.json is the whole tokenizer, with no class that adds to it."""
    file = directory / "tokenizer_config.json"
    if not file.is_file() or not (directory / "tokenizer.json").is_file():
        return False
    said = json.loads(file.read_text(encoding="utf-8"))
    return said.get("tokenizer_class") in ("PreTrainedTokenizerFast", "TokenizersBackend") and "auto_map" not in said


def gguf_tokenizer(metadata: Mapping[str, Any], label: str):
    """The tokenizer that a GGUF file's metadata describes, with chat template and special tokens.

    The kind "gpt2" is byte-level BPE, "llama" is a SentencePiece vocabulary (gpmjax.hub.spm).

    Args:
        metadata: the `tokenizer.*` keys of the file.
        label: the file, for messages.

    Raises:
        ValueError: the kind of tokenizer or its word pattern is not supported, or a part is missing.
    """
    from transformers import PreTrainedTokenizerFast  # see directory_tokenizer

    kind = metadata.get("tokenizer.ggml.model")
    if kind not in ("gpt2", "llama"):
        raise ValueError(
            f"{label}: tokenizer.ggml.model is {kind!r}; allowed: 'gpt2', 'llama' "
            "(--tokenizer takes another tokenizer from a directory)"
        )
    _require_parts(metadata, ("tokens", "token_type", "merges" if kind == "gpt2" else "scores"), label)
    if kind == "gpt2":
        tokenizer, adds_bos = _byte_level(metadata, label)
        tokens = metadata["tokenizer.ggml.tokens"]
    else:
        tokenizer, adds_bos, tokens = spm_tokenizer(metadata, label), True, text_tokens(metadata)
    types = metadata["tokenizer.ggml.token_type"]
    control, user_defined = (
        [token for token, found in zip(tokens, types, strict=True) if found == wanted]
        for wanted in (CONTROL, USER_DEFINED)
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in user_defined])
    ids = {name: metadata.get(f"tokenizer.ggml.{key}_token_id") for name, key in _SPECIAL.items()}
    special = {name: tokens[number] for name, number in ids.items() if number is not None}
    bos = special.get("bos_token", "") if metadata.get("tokenizer.ggml.add_bos_token", adds_bos) else ""
    eos = special.get("eos_token", "") if metadata.get("tokenizer.ggml.add_eos_token", False) else ""
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
    for name in _SPECIAL.values():
        place = metadata.get(f"tokenizer.ggml.{name}_token_id", 0)
        if not 0 <= place < count:
            raise ValueError(f"{label}: tokenizer.ggml.{name}_token_id is {place}; allowed: one of the {count} tokens")


def _byte_level(metadata: Mapping[str, Any], label: str) -> tuple[Tokenizer, bool]:
    """(byte-level BPE, whether texts begin with BOS if the file does not say)."""
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
    """The tokenizer, or a copy of it whose padding token is not EOS and, if ``rows`` is given, has an id below it.

    A Hugging Face classifier reads the last token that is not padding; if EOS is the padding token, it reads too far
    left. The new padding token is a special token that nothing else uses, since the embedding has no row for a new
    token.

    Raises:
        ValueError: no special token is unused.
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
            f"tokenizer pads with its EOS token {tokenizer.eos_token!r}, and has no other unused special token"
        )
    # Prefer a token made for padding, then the unknown token, then the first one.
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
