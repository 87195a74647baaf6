"""Checks that a tokenizer fits a model: no id of its texts may be beyond the embedding."""

import copy
import itertools
from typing import Any


def fitting(tokenizer: Any, rows: int, label: str):
    """The tokenizer, checked so that its texts have no id beyond an embedding of ``rows`` rows.

    Some published tokenizers have a few more tokens than their model's embedding has rows, all of them added special
    tokens; Gemma 3's text models lack the image token. transformers accepts such a pair, and it works as long as no
    text contains one of these tokens. It is accepted here too, and a text that contains one of them raises a ValueError
    when it is tokenised.

    Args:
        tokenizer: a transformers tokenizer.
        rows: number of rows of the model's embedding matrix.
        label: where model and tokenizer were read, for messages.

    Raises:
        ValueError: a token beyond the embedding is an ordinary token, or BOS or EOS, or the chat template writes it.
    """
    beyond = {token: number for token, number in tokenizer.get_vocab().items() if number >= rows}
    if not beyond:
        return tokenizer
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    template = str(tokenizer.chat_template or "")
    needed = (tokenizer.bos_token, tokenizer.eos_token)
    used = [token for token in beyond if token not in added or token in needed or token in template]
    if used:
        first = min(used, key=beyond.__getitem__)
        raise ValueError(
            f"{label}: its tokenizer has {len(tokenizer)} tokens, its embedding {rows} rows; {first!r} is token "
            f"{beyond[first]}, so this is another model's tokenizer, or the embedding was not resized"
        )
    guarded = copy.copy(tokenizer)
    guarded.__class__ = _guarding(type(tokenizer), rows, label)
    return guarded


def _guarding(kind: type, rows: int, label: str) -> type:
    """A subclass of ``kind`` that refuses texts with ids beyond ``rows``; it keeps the name, which is saved with it."""

    def tokenise(self, *args, **kwargs):
        encoded = kind.__call__(self, *args, **kwargs)
        ids = encoded["input_ids"]
        for number in itertools.chain.from_iterable(ids) if ids and isinstance(ids[0], list) else ids:
            if number >= rows:
                token = self.convert_ids_to_tokens(int(number))
                raise ValueError(f"{label}: {token!r} is token {number}, and its embedding has {rows} rows")
        return encoded

    return type(kind.__name__, (kind,), {"__call__": tokenise, "__module__": kind.__module__, "__doc__": kind.__doc__})
