"""SentencePiece vocabularies of GGUF metadata agree with SentencePiece's algorithm, implemented here by definition."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpmjax.hub.spm import BYTE, CONTROL, NORMAL, SPACE, UNKNOWN, USER_DEFINED
from gpmjax.hub.tokenizer import gguf_tokenizer

SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>"]
FOUND_FIRST = ["\n", "\n\n", "\n\n\n", f"{SPACE}{SPACE}", f"{SPACE}{SPACE}{SPACE}", "<b>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
# Pieces with the best score first. "aaa" and "▁the" can be made in two ways.
PIECES = [
    "he",
    "th",
    "the",
    f"{SPACE}t",
    f"{SPACE}the",
    "aa",
    "aaa",
    "ab",
    "中文",
    "bab",
    f"a{SPACE}",
    "<0",
    "<0x",
    "<0x4",
    "1>",
    *f"{SPACE}abehtx<>中文é014",
]


def metadata(**changes):
    tokens = [*SPECIAL, *FOUND_FIRST, *BYTES, *PIECES]
    types = (
        [CONTROL] * 3 + [UNKNOWN, CONTROL] + [USER_DEFINED] * len(FOUND_FIRST) + [BYTE] * 256 + [NORMAL] * len(PIECES)
    )
    scores = [-1000.0] * (len(tokens) - len(PIECES)) + [-float(place) for place in range(len(PIECES))]
    given = dict(
        model="llama", pre="default", tokens=tokens, token_type=types, scores=scores, add_space_prefix=False,
        eos_token_id=1, bos_token_id=2, unknown_token_id=3, padding_token_id=0,
    )  # fmt: skip
    return {f"tokenizer.ggml.{name}": value for name, value in (given | changes).items() if value is not None}


def reference(text: str, *, prefix: bool = False, found_first=FOUND_FIRST) -> list[str]:
    """The pieces of a text by SentencePiece's definition.

    First the longest user-defined pieces; then the join with the best score, the leftmost of equals; then bytes.
    """
    scores = {piece: -place for place, piece in enumerate(PIECES)}
    text = (SPACE if prefix and text else "") + text.replace(" ", SPACE)
    symbols, frozen, at = [], [], 0
    while at < len(text):
        found = max((piece for piece in found_first if text.startswith(piece, at)), key=len, default="")
        symbols.append(found or text[at])
        frozen.append(bool(found))
        at += len(symbols[-1])
    while True:
        joins = [
            (-scores[symbols[n] + symbols[n + 1]], n)
            for n in range(len(symbols) - 1)
            if not frozen[n] and not frozen[n + 1] and symbols[n] + symbols[n + 1] in scores
        ]
        if not joins:
            break
        _, n = min(joins)
        symbols[n : n + 2] = [symbols[n] + symbols[n + 1]]
        del frozen[n]
    known = {*scores, *found_first}
    return [part for s in symbols for part in ([s] if s in known else [f"<0x{byte:02X}>" for byte in s.encode()])]


def pieces(tokenizer, text: str) -> list[str]:
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(text, add_special_tokens=False).input_ids)
    return [token.replace(" ", SPACE) for token in tokens]


@pytest.fixture(scope="module")
def spm():
    return gguf_tokenizer(metadata(), "m.gguf")


@example(text="  a  the    b\n\n\n\n<b>")
@example(text="<0x41>")  # the name of a byte piece in a text is not that piece
@given(text=st.text(st.sampled_from("abeht x\n<>中文é0😀\x01\t"), max_size=24))
def test_pieces_are_those_of_sentencepiece(spm, text):
    assert pieces(spm, text) == reference(text)
    assert spm.decode(spm(text, add_special_tokens=False).input_ids) == text


@pytest.fixture(scope="module")
def prefixed():
    """A tokenizer like Llama 2's: no user-defined pieces, and a space before every text."""
    tokens, types = metadata()["tokenizer.ggml.tokens"], metadata()["tokenizer.ggml.token_type"]
    tokens = [
        f"<unused{place}>" if kind == USER_DEFINED else token
        for place, (token, kind) in enumerate(zip(tokens, types, strict=True))
    ]
    types = [CONTROL if kind == USER_DEFINED else kind for kind in types]
    return gguf_tokenizer(metadata(add_space_prefix=None, tokens=tokens, token_type=types), "m.gguf")


@given(text=st.text(st.sampled_from("abeht x\n中😀"), max_size=16))
def test_a_space_before_the_text(prefixed, text):
    assert pieces(prefixed, text) == reference(text, prefix=True, found_first=())
    assert prefixed.decode(prefixed(text, add_special_tokens=False).input_ids) == text


def test_special_tokens_and_the_tokens_added_to_texts(spm, tmp_path):
    assert pieces(spm, "<bos>the<start_of_turn>") == ["<bos>", "the", "<start_of_turn>"]
    roles = (spm.pad_token, spm.eos_token, spm.bos_token, spm.unk_token)
    assert roles == tuple(SPECIAL[:4]) and len(spm) == len(metadata()["tokenizer.ggml.tokens"])

    def ids(**changes):
        return gguf_tokenizer(metadata(**changes), "m.gguf")("the").input_ids

    the = spm.convert_tokens_to_ids("the")
    assert ids() == [2, the]  # unless the file says otherwise
    assert ids(add_bos_token=False) == [the]
    assert ids(add_bos_token=False, add_eos_token=True) == [the, 1]
    assert ids(add_eos_token=True) == [2, the, 1]


def test_chat_template(spm):
    template = "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content }}{% endfor %}"
    made = gguf_tokenizer(metadata() | {"tokenizer.chat_template": template}, "m.gguf")
    assert made.apply_chat_template([{"role": "user", "content": "the"}], return_dict=False)[:2] == [2, 4]
    assert spm.chat_template is None


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"scores": None}, "m.gguf: tokenizer.ggml.scores is missing"),
        ({"scores": [0.0]}, "m.gguf: tokenizer.ggml.scores has 1 entries; allowed: one for each of the 297 tokens"),
        ({"precompiled_charsmap": [1]}, "m.gguf: tokenizer.ggml.precompiled_charsmap is set, which is not supported"),
        ({"tokens": ["<pad>"] * 297}, "m.gguf: tokenizer.ggml.tokens 0 and 1 are both '<pad>'; they must differ"),
    ],
)
def test_unsupported_vocabularies_are_refused_in_one_line(changes, complaint):
    with pytest.raises(ValueError, match=complaint) as caught:
        gguf_tokenizer(metadata(**changes), "m.gguf")
    assert "\n" not in str(caught.value)
