"""Prompt and response as token ids, with the boundary between them exact.

A sequence is ``prompt ids + response ids``:

* prompt ids: the templated prompt with its generation header ("<|im_start|>assistant\\n"), the same for every response;
* ``prompt_end``: the last token of the templated prompt *without* that header. Published GPM checkpoints read the
  scale gate there: the last token of ``apply_chat_template(prompt messages)``;
* response ids: what the template makes of the reply, without the whitespace it leaves behind, and EOS once at the
  end. The embedding is read at that EOS.

The template writes BOS if it wants one, so special tokens are never added a second time. Positions are counted,
never searched for, so it does not matter whether the padding token is also EOS.
"""

import dataclasses
import datetime
import functools
import re
from collections.abc import Sequence
from typing import NamedTuple

import jinja2

from gpmjax.data.groups import Message
from gpmjax.data.reply_template import DATE_STRING, TODAY, own_template

TEMPLATES = ("chat", "raw")

DATE = datetime.date(2024, 7, 26)
"""Llama 3.1's own fallback; any fixed day would do, but published templates were trained on this one."""

_TODAY_CALL = re.compile(r"strftime_now\s*\(")


class Tokens(NamedTuple):
    """A prompt and its responses as ids, uncut."""

    prompt: list[int]
    prompt_end: int
    responses: list[list[int]]


class _Texts(NamedTuple):
    plain: str
    """The prompt up to the gate."""
    header: str
    """The prompt with the generation header."""
    tails: tuple[str, ...]
    """What follows ``header``, response by response."""


@dataclasses.dataclass(frozen=True)
class ChatFormat:
    """How messages become tokens.

    Args:
        tokenizer: a transformers tokenizer with an EOS token.
        template: "chat" is the tokenizer's chat template; "raw" writes prompt, newline, response, for base models.
        date: what a template that asks for today's date is told, so that scores do not drift from day to day.

    Raises:
        ValueError: no EOS, no chat template, or a template whose date cannot be pinned.
    """

    tokenizer: object
    template: str = "chat"
    date: datetime.date = DATE

    def __post_init__(self):
        if self.template not in TEMPLATES:
            raise ValueError(f"template={self.template!r}: must be one of {', '.join(map(repr, TEMPLATES))}")
        if self.tokenizer.eos_token_id is None:
            raise ValueError("the tokenizer has no EOS token; the embedding is read there")
        if self.template == "chat" and not self.tokenizer.chat_template:
            raise ValueError("template='chat': the tokenizer has no chat template; use 'raw', or a tokenizer that has one")
        if self.template == "chat" and _TODAY_CALL.search(self._pinned_template):
            raise ValueError("the chat template's date cannot be pinned: strftime_now is called with no literal")

    def encode(self, prompt: Sequence[Message], response: str) -> tuple[list[int], int, list[int]]:
        """(prompt ids, prompt_end, response ids) of one sequence, uncut."""
        (tokens,) = self.encode_all([(prompt, (response,))])
        return tokens.prompt, tokens.prompt_end, tokens.responses[0]

    def encode_all(self, items: Sequence[tuple[Sequence[Message], Sequence[str]]]) -> list[Tokens]:
        """Prompts with their responses as ids, all tokenised in one call."""
        rendered = [self._render(prompt, responses) for prompt, responses in items]
        whole = [[t.plain, t.header, *(t.header + tail for tail in t.tails)] for t in rendered]
        ids = iter(self._tokenize([text for texts in whole for text in texts]))
        return [self._split(texts, [next(ids) for _ in range(2 + len(texts.tails))]) for texts in rendered]

    def begin(self, text: str) -> str:
        """A text as it is, behind BOS where the tokenizer begins texts with it."""
        return text if self._bos and text.startswith(self._bos) else self._bos + text

    def ask(self, text: str) -> str:
        """A user's message, up to where the assistant's answer begins."""
        if self.template == "raw":
            return self.begin(text) + "\n"
        return self._apply((Message("user", text),), header=True)

    @property
    def writes_date(self) -> bool:
        """Whether what is written depends on the day."""
        if self.template == "raw":
            return False
        other = dataclasses.replace(self, date=self.date + datetime.timedelta(days=400))
        probe = (Message("user", "a"),)
        return self._apply(probe, header=True) != other._apply(probe, header=True)

    @property
    def ends_turn(self) -> bool:
        """Whether the template itself ends a reply with EOS; otherwise EOS is appended."""
        (tail,) = self._render((Message("user", "a"),), ("b",)).tails
        return self._tokenize([tail])[0][-1:] == [self.tokenizer.eos_token_id]

    @functools.cached_property
    def _pinned_template(self) -> str:
        template = own_template(self.tokenizer.get_chat_template())
        return TODAY.sub(lambda call: repr(self.date.strftime(call["format"])), template)

    @functools.cached_property
    def _bos(self) -> str:
        """What stands before a raw prompt: BOS, if the tokenizer begins texts with it."""
        bos = self.tokenizer.bos_token_id
        begins = self.tokenizer("a")["input_ids"][:1] == [bos]
        return self.tokenizer.bos_token if bos is not None and begins else ""

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        # Whole texts, cut later if at all: the warning about long ones would be a false alarm.
        return self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []

    def _apply(self, messages: Sequence[Message], *, header: bool) -> str:
        try:
            return self.tokenizer.apply_chat_template(
                [message._asdict() for message in messages],
                chat_template=self._pinned_template,
                add_generation_prompt=header,
                tokenize=False,
                date_string=self.date.strftime(DATE_STRING),
            )
        except jinja2.TemplateError as error:
            roles = ", ".join(message.role for message in messages)
            raise ValueError(f"the chat template refuses messages of {roles} ({error})") from error

    def _render(self, prompt: Sequence[Message], responses: Sequence[str]) -> _Texts:
        if not prompt:
            raise ValueError("a prompt needs at least one message")
        if self.template == "raw":
            if len(prompt) != 1:
                raise ValueError(f"template='raw' takes prompts of one message, not {len(prompt)}; use 'chat'")
            plain = self.begin(prompt[0].content)
            return _Texts(plain, plain + "\n", tuple(response.rstrip() for response in responses))
        plain, header = self._apply(prompt, header=False), self._apply(prompt, header=True)
        if not header.startswith(plain):
            raise ValueError("the chat template's generation header rewrites the prompt, so there is no boundary to read")
        tails = []
        for response in responses:
            full = self._apply((*prompt, Message("assistant", response)), header=False)
            # A header may hold what a finished reply does not (an opened "<think>"): then the bare text follows it.
            tails.append((full[len(header) :] if full.startswith(header) else response).rstrip())
        return _Texts(plain, header, tuple(tails))

    def _split(self, texts: _Texts, ids: list[list[int]]) -> Tokens:
        plain, prompt, *fulls = ids
        if not plain:
            raise ValueError("an empty prompt has no token to read the gate at")
        if prompt[: len(plain)] != plain:  # a merge across the boundary
            (rest,) = self._tokenize([texts.header[len(texts.plain) :]])
            prompt = plain + rest
        responses = []
        for tail, full in zip(texts.tails, fulls, strict=True):
            if full[: len(prompt)] == prompt:
                response = full[len(prompt) :]
            else:  # the same, between header and reply; the prompt must not depend on the reply
                (response,) = self._tokenize([tail])
            responses.append(self._ended(response))
        return Tokens(prompt, len(plain) - 1, responses)

    def _ended(self, ids: list[int]) -> list[int]:
        eos = self.tokenizer.eos_token_id
        while ids and ids[-1] == eos:
            ids = ids[:-1]
        return [*ids, eos]
