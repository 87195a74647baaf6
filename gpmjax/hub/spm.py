"""Makes a tokenizer of the ``tokenizers`` library from a SentencePiece vocabulary ("llama" in GGUF: Llama 2, Mistral,
Gemma).

SentencePiece's byte-pair encoding repeatedly joins the two neighbours whose joint piece has the highest score. The
``tokenizers`` library uses an ordered list of merges, which is made from the scores here. The rest of SentencePiece's
behaviour is reproduced by other means:

* spaces are written as "▁", and a text begins with one if the model says so;
* control pieces and byte pieces never result from merging;
* user-defined pieces are found in the text first, the longest at each place;
* a character that is not a piece becomes its UTF-8 bytes, each a piece such as <0x0A>.

If two joins have equal scores, SentencePiece takes the left one, and a list of merges takes the earlier one. Scores
differ between pieces, so this affects only two ways of making the same piece from three overlapping neighbours.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers

SPACE = "▁"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Values of tokenizer.ggml.token_type."""


def spm_tokenizer(metadata: Mapping[str, Any], label: str) -> Tokenizer:
    """The tokenizer without special and user-defined tokens, which the caller adds.

    Args:
        metadata: the `tokenizer.*` keys of a GGUF file, at least `tokenizer.ggml.tokens`, `.scores` and `.token_type`.
        label: the file, for messages.

    Raises:
        ValueError: two tokens have the same text, or the file asks for a normalisation that is not supported.
    """
    tokens, types = text_tokens(metadata), metadata["tokenizer.ggml.token_type"]
    vocabulary: dict[str, int] = {}
    for place, token in enumerate(tokens):
        if vocabulary.setdefault(token, place) != place:
            raise ValueError(
                f"{label}: tokenizer.ggml.tokens {vocabulary[token]} and {place} are both {token!r}; they must differ"
            )
    for name in ("precompiled_charsmap", "remove_extra_whitespaces"):
        if metadata.get(f"tokenizer.ggml.{name}"):
            raise ValueError(
                f"{label}: tokenizer.ggml.{name} is set, which is not supported; load the tokenizer from a directory"
            )
    unknown = metadata.get("tokenizer.ggml.unknown_token_id")
    scores = {
        token: score
        for token, score, kind in zip(tokens, metadata["tokenizer.ggml.scores"], types, strict=True)
        if kind == NORMAL
    }
    tokenizer = Tokenizer(
        models.BPE(
            vocabulary,
            merges_by_score(scores),
            unk_token=None if unknown is None else tokens[unknown],
            fuse_unk=True,
            byte_fallback=BYTE in types,
        )
    )
    prefixed = metadata.get("tokenizer.ggml.add_space_prefix", True)
    spaces = normalizers.Replace(" ", SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), spaces]) if prefixed else spaces
    parts = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)] if prefixed else parts)
    return tokenizer


def text_tokens(metadata: Mapping[str, Any]) -> Sequence[str]:
    """The tokens; user-defined ones as they appear in a text, with spaces instead of "▁"."""
    pairs = zip(metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"], strict=True)
    return [token.replace(SPACE, " ") if kind == USER_DEFINED else token for token, kind in pairs]


def merges_by_score(scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """All pairs of pieces that join to a third piece, by that piece's score, highest first.

    >>> merges_by_score({"a": -3.0, "b": -4.0, "ab": -1.0, "aab": -2.0, "aa": -5.0})
    [('a', 'b'), ('a', 'ab'), ('aa', 'b'), ('a', 'a')]
    """
    found = [
        (-score, cut, piece)
        for piece, score in scores.items()
        for cut in range(1, len(piece))
        if piece[:cut] in scores and piece[cut:] in scores
    ]
    return [(piece[:cut], piece[cut:]) for _, cut, piece in sorted(found)]
