"""The program that renders chat templates in a separate process, which `gpmjax.data.templates` starts.

A chat template is a program that comes with a model. Jinja's sandbox keeps it from the machine, but not from running
forever or filling the memory. So it runs in its own process, for which the operating system limits the processor time
of a text and the memory. The environment matches that of transformers 5 (utils/chat_template_utils.py), so templates
write the same text here. One difference is intended: "now" is a fixed day.

It is run as `python -I -S template_worker.py DIRECTORY…` with the directories that contain jinja2, and imports nothing
else of this package. A request is a line of JSON, {"template", "variables", "date", "items": [{"messages", "tools",
"ends"}]}. An end is [messages that follow, whether to open the answer]. The answer to each item is a line of JSON,
["text", …] for its ends or {"error", "end", "refused"}.
"""

import datetime
import functools
import json
import resource
import sys
from typing import Any

SECONDS = 2
"""Limit of processor time for one text. Real templates take 0.1 ms for a short conversation, 10 ms for a long one."""
MEMORY = 1 << 30
"""Limit of memory for the whole process, in bytes."""
LONGEST = 4_000_000
"""A text may have this many characters plus 20 times those of the conversation."""


def answer_requests() -> None:
    """Answers requests on standard input until it ends, under limits of memory and time."""
    sys.path[:0] = sys.argv[1:]
    limit(resource.RLIMIT_CORE, 0)
    compiled("", "2024-01-01")  # imports Jinja before the memory is limited, so that the import cannot fail
    limit(resource.RLIMIT_AS, MEMORY)
    for line in sys.stdin:
        request = json.loads(line)
        for item in request["items"]:
            try:
                answer = json.dumps(texts(request, item))
            except MemoryError:
                answer = json.dumps(
                    {"error": f"needs more than {MEMORY >> 30} GiB of memory", "end": 0, "refused": False}
                )
            sys.stdout.write(answer + "\n")
            sys.stdout.flush()  # this answer must arrive even if the next item is stopped


def limit(kind: int, value: int) -> None:
    """Limits a resource of this process to ``value``, or to the inherited hard limit if that is lower."""
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def texts(request: dict, item: dict) -> list[str] | dict:
    """The text that the template writes for each end of an item, or a dictionary with the error it raised."""
    written = []
    for end, (more, opens) in enumerate(item["ends"]):
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + SECONDS)
        try:
            text = compiled(request["template"], request["date"]).render(
                **request["variables"],
                messages=[*item["messages"], *more],
                tools=item["tools"],
                documents=None,
                add_generation_prompt=opens,
            )
        except MemoryError:
            raise
        except Exception as error:  # templates can raise anything
            refused = type(error).__name__ == "TemplateError"
            message = " ".join(str(error).split())[:300]
            said = message if refused else f"{type(error).__name__}: {message}".removesuffix(": ")
            return {"error": said, "end": end, "refused": refused}
        if len(text) > LONGEST and len(text) > LONGEST + 20 * len(json.dumps([item["messages"], item["tools"], more])):
            return {"error": f"writes {len(text)} characters", "end": end, "refused": False}
        written.append(text)
    return written


@functools.lru_cache(maxsize=16)
def compiled(template: str, date: str):
    """The compiled template."""
    import jinja2
    import jinja2.ext
    import jinja2.sandbox

    class Generation(jinja2.ext.Extension):
        """{% generation %}, which marks the text that a model is trained on, writes its content unchanged."""

        def parse(self, parser):
            line = next(parser.stream).lineno
            return jinja2.nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(
                line
            )

    class Dictionary:
        """``dict`` as a callable; the class itself would give the template access to Python."""

        def __call__(self, *args, **kwargs):
            return dict(*args, **kwargs)

        def fromkeys(self, *args):
            return dict.fromkeys(*args)

    class Names(jinja2.utils.Namespace):
        """A namespace that refuses names with a leading underscore."""

        def __init__(*args, **kwargs):
            self, args = args[0], args[1:]
            for name in dict(*args, **kwargs):
                refuse_underscore(name)
            jinja2.utils.Namespace.__init__(self, dict(*args, **kwargs))

        def __setitem__(self, name, value):
            refuse_underscore(name)
            jinja2.utils.Namespace.__setitem__(self, name, value)

    def refuse_underscore(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a namespace cannot hold {name!r}")

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    Generation.tags = {"generation"}
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = tojson
    added: dict[str, Any] = {
        "raise_exception": raise_exception,
        "strftime_now": datetime.date.fromisoformat(date).strftime,
        "dict": Dictionary(),
        "namespace": Names,
    }
    environment.globals.update(added)
    return environment.from_string(template)


if __name__ == "__main__":
    answer_requests()
