"""The program that renders chat templates, apart from everything else; `gpmjax.data.templates` starts it and talks to it.

A chat template is a program that came with a model. Jinja's sandbox keeps it from the machine, but not from running for
ever or from filling the memory. So it runs in a process of its own, which the operating system stops at so many seconds of
processor time a text and so much memory. The environment has what transformers' has (transformers 5,
utils/chat_template_utils.py), so that templates write the same here; one difference is intended: "now" is a fixed day.

Run as `python -I -S template_worker.py DIRECTORY…`, the directories that jinja2 is in. It imports nothing else of this
package. A request is a line of JSON, {"template", "variables", "date", "items": [{"messages", "tools", "ends"}]}; each
item is answered by a line, ["text", …] for its ends, or {"error", "end", "refused"}. An end is [messages that follow, whether to
open the answer].
"""

import datetime
import functools
import json
import resource
import sys

SECONDS = 2
"""Processor time of one text, rounded up. Real templates take 0.1 ms for a short conversation, 10 ms for a very long one."""
MEMORY = 1 << 30
"""Bytes of the whole process."""
LONGEST = 4_000_000
"""Characters of a text, besides twenty times those that were asked for."""


def main() -> None:
    sys.path[:0] = sys.argv[1:]
    limit(resource.RLIMIT_CORE, 0)
    import jinja2.ext
    import jinja2.sandbox  # before the memory is limited, so that no import fails for it

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
            sys.stdout.flush()  # what is written is not lost when the next one is stopped


def limit(kind: int, value: int) -> None:
    """Sets a limit of this process, within what it inherited."""
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def texts(request: dict, item: dict) -> list[str] | dict:
    """What the template writes for each end of an item, or what it raised."""
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
    """The template, ready to be rendered."""
    import jinja2
    import jinja2.ext
    import jinja2.sandbox

    class Generation(jinja2.ext.Extension):
        """{% generation %}, which marks what a model is trained on, writes what is inside."""

        tags = {"generation"}

        def parse(self, parser):
            line = next(parser.stream).lineno
            return jinja2.nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(
                line
            )

    class Dictionary:
        """``dict`` as a function alone: the class would open Python to the template."""

        def __call__(self, *args, **kwargs):
            return dict(*args, **kwargs)

        def fromkeys(self, *args):
            return dict.fromkeys(*args)

    class Names(jinja2.utils.Namespace):
        """A namespace without the names that Python keeps for itself."""

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

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals |= {
        "raise_exception": raise_exception,
        "strftime_now": datetime.date.fromisoformat(date).strftime,
        "dict": Dictionary(),
        "namespace": Names,
    }
    return environment.from_string(template)


if __name__ == "__main__":
    main()
