"""Makes a chat template whose finished replies end at EOS, where a preference model is read.

A model of this package is read at EOS, the last token of a reply. Many chat templates write more after it (ChatML a
newline after ``<|im_end|>``) or leave it out (Gemma). Other programs feed the text of `apply_chat_template` to the
model unchanged and read its last token. So a preference model is saved with a template that ends a finished reply at
EOS.

The new template contains the model's own, unchanged except for ``{% generation %}`` marks. Its output differs only
here:

* a conversation whose last message is the assistant's, written without a generation prompt, ends at EOS;
* dates are the pinned date that the model was trained with;
* if the model declares how many BOS its sequences begin with, the text begins with that many.
"""

import datetime
import re

TODAY = re.compile(r"""strftime_now\(\s*(?P<quote>['"])(?P<format>.*?)(?P=quote)\s*\)""")
"""The call with which a template asks for today's date, in a literal format."""
DATE_STRING = "%d %b %Y"
"""The format of the variable ``date_string``, which other templates read."""

_OPENING = "{# Written by gpmjax: a finished reply ends at EOS, where the model is read. #}"
_BEFORE = "{% set gpmjax_text %}\n"
_AFTER = "{{ '' }}{% endset %}"
# {% generation %} marks the assistant's tokens for trainers. The new template writes the whole text in one piece, where
# the marks would be wrong, so each is replaced by a block without effect.
_GENERATION = re.compile(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}")


def ending_at_eos(template: str, *, eos: str, date: datetime.date, bos: str | None = None, bos_tokens: int = -1) -> str:
    """``template`` with finished replies that end in ``eos``; a template that this function made is accepted too.

    Args:
        template: a Jinja chat template, as in `tokenizer.chat_template`.
        eos: the text of the EOS token.
        date: the date that a template is told when it asks for today's.
        bos: the text of the BOS token.
        bos_tokens: how many BOS a sequence begins with; −1: as many as the template writes.

    >>> template = "{% for m in messages %}{{ m['content'] }}<end>\\n{% endfor %}"
    >>> own_template(ending_at_eos(template, eos="<end>", date=datetime.date(2024, 7, 26))) == template
    True
    """
    own = own_template(template)
    begun = (
        "gpmjax_text" if bos_tokens < 0 or bos is None else f"{bos * bos_tokens!r} + gpmjax_text.removeprefix({bos!r})"
    )
    return "".join(
        [
            _OPENING,
            _dates(own, date),
            _BEFORE,
            # Jinja drops the last newline of a template, but not of a block inside another template.
            _GENERATION.sub(r"{%\1 \2with \3%}", own.removesuffix("\n")),
            _AFTER,
            f"{{% set gpmjax_text = {begun} %}}",
            "{% if messages and messages[-1]['role'] == 'assistant' and not add_generation_prompt %}",
            "{% set gpmjax_text = gpmjax_text.rstrip() %}",
            f"{{{{ gpmjax_text if gpmjax_text.endswith({eos!r}) else gpmjax_text + {eos!r} }}}}",
            "{% else %}{{ gpmjax_text }}{% endif %}",
        ]
    )


def own_template(template: str) -> str:
    """The model's own template, extracted from one that `ending_at_eos` made; any other template unchanged."""
    if not template.startswith(_OPENING):
        return template
    return template[template.index(_BEFORE) + len(_BEFORE) : template.rindex(_AFTER)]


def _dates(template: str, date: datetime.date) -> str:
    """Jinja code that defines the names from which templates read the date, a variable and a macro, as ``date``."""
    formats = sorted({call["format"] for call in TODAY.finditer(template)})
    written = {format: date.strftime(format) for format in formats}
    told = f"{{% set date_string = date_string if date_string is defined else {date.strftime(DATE_STRING)!r} %}}"
    told = told if "date_string" in template else ""
    if written:
        told += f"{{% macro strftime_now(format) %}}{{{{ {written!r}[format] }}}}{{% endmacro %}}"
    return told
