"""Whether a tokenizer goes with a model: no id of its texts may be beyond the embedding."""

import copy
import itertools
from typing import Any


def fitting(tokenizer: Any, rows: int, label: str):
    """The tokenizer, once it is known that no id of its texts is beyond an embedding of ``rows`` rows.

    Some published tokenizers have a few more tokens than their model has rows, all of them added and special: Gemma 3's text
    models lack the image token's. transformers reads and writes such a pair as it is, and it works as long as no text holds one
    of these tokens. Here the same is true, and a text that does hold one is refused where it is tokenised.

    Args:
        tokenizer: a transformers tokenizer.
        rows: of the embedding that its ids are looked up in.
        label: where the two were read, for messages.

    Raises:
        ValueError: a token beyond the embedding is an ordinary one, or BOS or EOS, or is written by the chat template.
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
            f"{label}: its tokenizer has {len(tokenizer)} tokens, its embedding {rows} rows; {first!r} is token {beyond[first]}, "
            f"so this is another model's tokenizer, or the embedding was not resized"
        )
    guarded = copy.copy(tokenizer)
    guarded.__class__ = _guarding(type(tokenizer), rows, label)
    return guarded


def _guarding(kind: type, rows: int, label: str) -> type:
    """A class of tokenizers that refuse texts with ids beyond ``rows``; of the same name, which is written when they are saved."""

    def tokenise(self, *args, **kwargs):
        encoded = kind.__call__(self, *args, **kwargs)
        ids = encoded["input_ids"]
        for number in itertools.chain.from_iterable(ids) if ids and isinstance(ids[0], list) else ids:
            if number >= rows:
                token = self.convert_ids_to_tokens(int(number))
                raise ValueError(f"{label}: {token!r} is token {number}, and its embedding has {rows} rows")
        return encoded

    return type(kind.__name__, (kind,), {"__call__": tokenise, "__module__": kind.__module__, "__doc__": kind.__doc__})
