"""Tokenises prompts and responses, with an exact boundary between the two.

A sequence is ``prompt ids + response ids``:

* The prompt ids are the templated prompt with its generation header ("<|im_start|>assistant\\n"). They are the same for
  every response.
* The scale gate is read at the last token of the templated prompt *without* that header, ``apply_chat_template(prompt
  messages)``. For prompts of several messages the published code reads the gate elsewhere: at the last token of
  ``apply_chat_template`` of the *first* message. ``gate_at`` chooses between the two.
* The response ids are the reply as the template writes it, without trailing whitespace, followed by one EOS. The
  embedding is read at that EOS. `gpmjax.data.chat_texts` determines where a reply begins, and which templates are
  refused.

The template writes BOS itself where the model expects one, so the tokenizer never adds special tokens. The published
recipe adds them too, so its sequences begin with two BOS tokens; ``bos_tokens=2`` reproduces that. All positions are
counted, not searched for, so the padding token may be EOS as well.
"""

import dataclasses
import datetime
import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gpmjax.data.chat_texts import Texts, chat_texts
from gpmjax.data.groups import TOOLS, Message, RichText
from gpmjax.data.reply_template import DATE_STRING, TODAY, own_template
from gpmjax.data.templates import Ends, TemplateError, render

TEMPLATES = ("chat", "raw")
GATE_PLACES = ("prompt", "first_message")

DATE = datetime.date(2024, 7, 26)
"""The date that templates are told: the fallback of Llama 3.1's template, with which published models were trained."""

_SPEAKERS = {"user": "Human", "assistant": "Assistant"}

MOST_CHARACTERS = 1_000_000
"""The longest chat template that is accepted; real templates have some thousands of characters."""


class Tokens(NamedTuple):
    """A prompt and its responses as token ids, not truncated."""

    prompt: list[int]
    prompt_end: int
    """Index of the templated prompt's last token before the generation header."""
    responses: list[list[int]]
    gate: int
    """Index of the token at which the scale gate is read."""


@dataclasses.dataclass(frozen=True)
class ChatFormat:
    """How messages become tokens.

    Args:
        tokenizer: a transformers tokenizer with an EOS token.
        template: "chat" is the tokenizer's chat template. "raw" is for base models: prompt, newline, response; several
            turns become a transcript.
        date: the date that a template is told when it asks for today's; it is fixed so that scores do not change daily.
        bos_tokens: how many BOS tokens a sequence begins with; −1: as many as the template writes.
        gate_at: "prompt" or "first_message", see above.

    Raises:
        ValueError: the tokenizer has no EOS, no BOS (and ``bos_tokens`` is positive) or no chat template; or the
            template is too long, or its date cannot be pinned.
    """

    tokenizer: Any
    template: str = "chat"
    date: datetime.date = DATE
    bos_tokens: int = -1
    gate_at: str = "prompt"

    def __post_init__(self):
        if self.template not in TEMPLATES:
            raise ValueError(f"template={self.template!r}: must be one of {', '.join(map(repr, TEMPLATES))}")
        if self.tokenizer.eos_token_id is None:
            raise ValueError("the tokenizer has no EOS token; the embedding is read there")
        if self.gate_at not in GATE_PLACES:
            raise ValueError(f"gate_at={self.gate_at!r}: must be one of {', '.join(map(repr, GATE_PLACES))}")
        if self.bos_tokens > 0 and self.tokenizer.bos_token is None:
            raise ValueError(f"bos_tokens={self.bos_tokens}: must be 0 or -1, the tokenizer has no BOS token")
        if self.template == "chat" and not self.tokenizer.chat_template:
            raise ValueError(
                "template='chat': the tokenizer has no chat template; use 'raw', or a tokenizer that has one"
            )
        if self.template == "chat":
            if (length := len(template := self._template(()))) > MOST_CHARACTERS:
                raise ValueError(
                    f"the chat template{self._file} has {length} characters, must have at most {MOST_CHARACTERS}"
                )
            if re.search(r"strftime_now\s*\(", TODAY.sub("", template)):  # an exported template could not pin this date
                raise ValueError("the chat template's date cannot be pinned: strftime_now is called with no literal")

    def encode(self, prompt: Sequence[Message], response: str) -> tuple[list[int], int, list[int]]:
        """(prompt ids, index of the gate's token in them, response ids) of one sequence, not truncated."""
        (tokens,) = self.encode_all([(prompt, (response,))])
        return tokens.prompt, tokens.gate, tokens.responses[0]

    def encode_all(self, items: Sequence[tuple[Sequence[Message], Sequence[str]]]) -> list[Tokens]:
        """Token ids of prompts and their responses, all tokenised in one call."""
        rendered = self._texts(items)
        # A prompt without responses is to be answered by a model, so the whole generation header belongs to the prompt.
        rendered = [t if t.tails else t._replace(header=t.header + t.opening) for t in rendered]
        whole = [[t.plain, t.header, *(t.header + tail for tail in t.tails)] for t in rendered]
        ids = iter(self._tokenize([text for texts in whole for text in texts]))
        tokens = [self._split(texts, [next(ids) for _ in range(2 + len(texts.tails))]) for texts in rendered]
        return self._gated([prompt for prompt, _ in items], tokens) if self.gate_at == "first_message" else tokens

    def begin(self, text: str) -> str:
        """The text after ``bos_tokens`` BOS; if that is −1, after one BOS if the tokenizer adds BOS to texts."""
        return self._begun(text if self._bos and text.startswith(self._bos) else self._bos + text)

    def ask(self, text: str) -> str:
        """A user's message as the template writes it, up to where the assistant's answer begins."""
        if self.template == "raw":
            return self.begin(text) + "\n"
        (texts,) = self._texts([((Message("user", text),), ())])
        return texts.header

    def write(self, messages: Sequence[Message], *, header: bool) -> str:
        """A conversation as the chat template writes it, with or without the generation header."""
        ((text,),) = self._render([Ends(tuple(messages), [((), header)])])
        return text

    @functools.cached_property
    def opening(self) -> str:
        """The end of the generation header that belongs to the answer, such as "<think>\\n"; samples continue it."""
        if self.template == "raw":
            return ""
        return self._texts([((Message("user", "a"),), ())])[0].opening

    def continued(self, prompt: Sequence[Message], texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts that continue a prompt's generation header, unchanged, each ending in EOS."""
        (begun,) = self._texts([(prompt, ())])
        before = begun.header + begun.opening
        head, *wholes = self._tokenize([before, *(before + text for text in texts)])
        alone = self._tokenize(list(texts))
        ids = (w[len(head) :] if w[: len(head)] == head else a for w, a in zip(wholes, alone, strict=True))
        return [self._ended(each) for each in ids]

    @property
    def writes_date(self) -> bool:
        """Whether the template's output depends on the date."""
        if self.template == "raw":
            return False
        other = dataclasses.replace(self, date=self.date + datetime.timedelta(days=400))
        probe = (Message("user", "a"),)
        return self.write(probe, header=True) != other.write(probe, header=True)

    @property
    def ends_turn(self) -> bool:
        """Whether the template itself ends a reply with EOS; otherwise EOS is appended."""
        (texts,) = self._texts([((Message("user", "a"),), ("b",))])
        (tail,) = texts.tails
        return self._tokenize([tail])[0][-1:] == [self.tokenizer.eos_token_id]

    def _template(self, messages: Sequence[Message]) -> str:
        """The tokenizer's chat template; a tokenizer may have a second template for conversations with tools."""
        tools = [] if any(message.role == TOOLS for message in messages) else None
        return own_template(self.tokenizer.get_chat_template(tools=tools))

    @property
    def _file(self) -> str:
        """The file of the chat template, in parentheses for an error message; "" if unknown."""
        name = str(getattr(self.tokenizer, "name_or_path", "") or "")
        files = (os.path.join(name, file) for file in ("chat_template.jinja", "tokenizer_config.json"))
        found = next((file for file in files if name and Path(file).is_file()), name)
        return f" ({found})" if found else ""

    @functools.cached_property
    def _bos(self) -> str:
        """BOS if the tokenizer adds it to texts, else ""; raw prompts begin with it."""
        bos = self.tokenizer.bos_token_id
        begins = self.tokenizer("a")["input_ids"][:1] == [bos]
        return self.tokenizer.bos_token if bos is not None and begins else ""

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        # Texts are truncated later, so the tokenizer's warning about long texts would be a false alarm.
        try:
            return self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []
        except (TypeError, UnicodeEncodeError) as error:  # tokenizers raise these for a lone surrogate
            raise ValueError(
                "the text holds a lone surrogate (half of a character), which UTF-8 cannot write"
            ) from error

    def _render(self, items: Sequence[Ends]) -> list[list[str]]:
        variables = {**self.tokenizer.special_tokens_map, "date_string": self.date.strftime(DATE_STRING)}
        templates = [self._template(item.messages) for item in items]
        try:
            if len(set(templates)) == 1:
                return render(templates[0], items, variables, self.date.isoformat())
            return [
                render(text, [item], variables, self.date.isoformat())[0]
                for text, item in zip(templates, items, strict=True)
            ]
        except TemplateError as error:
            verb, roles = "refuses" if error.refused else "fails on", ", ".join(error.roles)
            raise ValueError(f"the chat template{self._file} {verb} messages of {roles} ({error.reason})") from error

    def _texts(self, items: Sequence[tuple[Sequence[Message], Sequence[str]]]) -> list[Texts]:
        if self.template == "raw":
            return [self._raw(prompt, responses) for prompt, responses in items]
        written = chat_texts(items, self._render)
        return [texts._replace(plain=self._begun(texts.plain), header=self._begun(texts.header)) for texts in written]

    def _begun(self, text: str) -> str:
        """The text with exactly ``bos_tokens`` BOS at its beginning; unchanged if ``bos_tokens`` is −1."""
        bos = self.tokenizer.bos_token
        if self.bos_tokens < 0 or bos is None:
            return text
        while text.startswith(bos):
            text = text.removeprefix(bos)
        return bos * self.bos_tokens + text

    def _gated(self, prompts: Sequence[Sequence[Message]], tokens: Sequence[Tokens]) -> list[Tokens]:
        """``tokens`` with the gate moved to the end of the first message, for prompts of several messages."""
        if self.template == "raw":
            first = [self.begin(f"{_SPEAKERS.get(prompt[0].role)}: {prompt[0].content}") for prompt in prompts]
        else:
            first = [
                self._begun(text)
                for (text,) in self._render([Ends(tuple(prompt[:1]), [((), False)]) for prompt in prompts])
            ]
        placed = []
        for prompt, text, ids in zip(prompts, self._tokenize(first), tokens, strict=True):
            if len(prompt) == 1:
                placed.append(ids)
                continue
            if not text or ids.prompt[: len(text)] != text:
                raise ValueError(
                    f"gate_at='first_message': the chat template{self._file} writes a conversation's first message "
                    "differently from that message alone, so the gate has no place after it; must be 'prompt'"
                )
            placed.append(ids._replace(gate=len(text) - 1))
        return placed

    def _raw(self, prompt: Sequence[Message], responses: Sequence[str]) -> Texts:
        """Writes prompt, newline, response; several turns become a transcript, "Human: …", "Assistant: …"."""
        if not prompt:
            raise ValueError("a prompt needs at least one message")
        rich = next((text for text in (*(m.content for m in prompt), *responses) if isinstance(text, RichText)), None)
        if rich is not None:
            raise ValueError(
                f"template='raw': writes text only, a message has {', '.join(rich.fields)}; must be 'chat'"
            )
        if len(prompt) == 1:
            plain = self.begin(prompt[0].content)
            return Texts(plain, plain + "\n", "", tuple(response.rstrip() for response in responses))
        if spoken := [message.role for message in prompt if message.role not in _SPEAKERS]:
            raise ValueError(
                f"template='raw': takes turns of user and assistant, not of {', '.join(spoken)}; must be 'chat'"
            )
        plain = self.begin("\n\n".join(f"{_SPEAKERS[message.role]}: {message.content}" for message in prompt))
        return Texts(plain, plain + "\n\nAssistant:", "", tuple(" " + response.rstrip() for response in responses))

    def _split(self, texts: Texts, ids: list[list[int]]) -> Tokens:
        plain, prompt, *fulls = ids
        if not plain:
            raise ValueError("an empty prompt has no token to read the gate at")
        if prompt[: len(plain)] != plain:  # the tokenizer merged across the boundary
            (rest,) = self._tokenize([texts.header[len(texts.plain) :]])
            prompt = plain + rest
        responses = []
        for tail, full in zip(texts.tails, fulls, strict=True):
            if full[: len(prompt)] == prompt:
                response = full[len(prompt) :]
            else:  # merged between header and reply: tokenise the reply alone, as the prompt must not depend on it
                (response,) = self._tokenize([tail])
            responses.append(self._ended(response))
        return Tokens(prompt, len(plain) - 1, responses, gate=len(plain) - 1)

    def _ended(self, ids: list[int]) -> list[int]:
        eos = self.tokenizer.eos_token_id
        while ids and ids[-1] == eos:
            ids = ids[:-1]
        return [*ids, eos]
