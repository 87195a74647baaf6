"""Mutation tests: change the mathematics in one place at a time, and check that a test fails.

    make mutate                                            every 8th mutant of every file below
    python benchmarks/mutate.py --every=1 --only=losses    all mutants of the files whose path contains "losses"
    python benchmarks/mutate.py --only=fit/step.py:142     the mutants of one line

A mutant is one change of one expression: another operator, sign, comparison or constant; two arguments or branches
swapped; a keyword argument or an in-place operation left out. Error messages, annotations and decorators are not
changed. A mutant is killed when a test fails or exceeds its time limit. A mutant that survives is listed: it needs a
better test or an explanation.

Each mutant runs in a fork of a process that has imported the libraries, but not gpmjax; files on disk are never
changed. mutmut 3.8.1 does not serve here: it skips every decorated function, custom gradients among them, and it forks
from a process in which JAX has run, whose threads a fork does not have.
"""

import ast
import copy
import doctest
import importlib
import json
import os
import platform
import random
import signal
import sys
import time
from importlib.machinery import SourceFileLoader
from pathlib import Path

# As in tests/conftest.py.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
os.environ["JAX_PLATFORMS"] = os.environ.get("JAX_PLATFORMS", "cpu")
os.environ["HF_HUB_OFFLINE"] = os.environ.get("HF_HUB_OFFLINE", "1")

import chex
import flax.linen
import hypothesis.extra.numpy
import jax
import jaxtyping
import optax
import pytest
import scipy.optimize
import scipy.special
from absl import app, flags

ROOT = Path(__file__).resolve().parent.parent

IMPORTED_BEFORE_FORKING = (
    chex,
    flax.linen,
    hypothesis.extra.numpy,
    jax,
    jaxtyping,
    optax,
    scipy.optimize,
    scipy.special,
)

EVERY = flags.DEFINE_integer("every", 8, "Run one of so many mutants of each file, drawn by --seed.", lower_bound=1)
ONLY = flags.DEFINE_string("only", "", "Only files whose path contains this; with :LINE, only mutants of that line.")
SEED = flags.DEFINE_integer("seed", 0, "Seed of the draw of mutants.")
LIMIT = flags.DEFINE_integer("limit", 300, "Seconds that a mutant's tests may take, since a mutant may run forever.")
OUT = flags.DEFINE_string("out", "", "JSON file for the score of this run.")

METHODS = "tests/improve/test_methods.py"
POLICY = tuple(
    f"tests/improve/test_policy_step.py::{name}"
    for name in (
        "test_logprobs_are_those_of_each_sequence_alone",
        "test_micro_batches_and_empty_rows_change_nothing",
        "test_a_response_that_weighs_nothing_may_be_left_out",
        "test_block_methods_need_embeddings_and_the_monitor_starts_at_rest",
        "test_signals_take_the_scale_that_the_config_names",
    )
)
STEP = tuple(
    f"tests/fit/test_step.py::{name}"
    for name in (
        "test_a_batch_in_which_nothing_weighs_is_no_step",
        "test_what_weighs_is_a_comparison_or_a_chosen_response_that_is_read",
        "test_accumulated_equals_full",
        "test_a_pairwise_model_answers_for_each_order",
    )
)
# File → the tests that should fail when it is wrong, the fastest first.
TESTS = {
    "preference/operator.py": ("tests/preference/test_operator.py", "tests/preference/test_score.py"),
    "preference/score.py": ("tests/preference/test_score.py",),
    "preference/embed.py": ("tests/preference/test_embed.py",),
    "preference/game.py": ("tests/preference/test_game.py",),
    "preference/self_play.py": ("tests/preference/test_self_play.py",),
    "losses/reward.py": ("tests/losses/test_reward.py", "tests/fit/test_batch_loss.py"),
    "losses/signals.py": ("tests/losses/test_signals.py", METHODS),
    "losses/policy.py": ("tests/losses/test_policy.py", METHODS),
    "losses/policy_gradient.py": ("tests/losses/test_policy_gradient.py", METHODS),
    "losses/blocks.py": ("tests/losses/test_blocks.py", METHODS),
    "losses/tokens.py": ("tests/losses/test_tokens.py",),
    "models/scores.py": ("tests/fit/test_batch_loss.py", "tests/models/test_verdicts.py"),
    "improve/signals.py": (METHODS, *POLICY),
    "improve/batch.py": (METHODS, *POLICY),
    "improve/data.py": (METHODS,),
    "improve/step.py": (METHODS, *POLICY),
    "fit/step.py": ("tests/fit/test_batch_loss.py", *STEP),
}

BINARY = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Div,
}
BINARY |= {ast.Mod: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd}
COMPARED = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
COMPARED |= {ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In}
CALLED = {"sum": "mean", "mean": "sum", "min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum"}
CALLED |= {"argmin": "argmax", "argmax": "argmin", "any": "all", "all": "any", "exp": "log", "log": "exp"}
SKIPPED = (ast.Raise, ast.Import, ast.ImportFrom, ast.JoinedStr)


def changes(node: ast.AST) -> list[ast.AST | None]:
    """The nodes that may replace a node; None removes it."""
    if isinstance(node, ast.BinOp) and type(node.op) in BINARY:
        return [ast.BinOp(node.left, BINARY[type(node.op)](), node.right)]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not, ast.Invert)):
        return [node.operand]
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARED:
        swapped = COMPARED[type(node.ops[0])]
        turned = {ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.LtE: ast.GtE, ast.GtE: ast.LtE}.get(type(node.ops[0]))
        return [ast.Compare(node.left, [op(), *node.ops[1:]], node.comparators) for op in (swapped, turned) if op]
    if isinstance(node, ast.BoolOp):
        return [ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)]
    if isinstance(node, ast.IfExp):
        return [ast.IfExp(node.test, node.orelse, node.body)]
    if isinstance(node, ast.AugAssign):
        other = [ast.AugAssign(node.target, BINARY[type(node.op)](), node.value)] if type(node.op) in BINARY else []
        return [*other, ast.Pass()]
    if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)):
        return [ast.Constant(not node.value if isinstance(node.value, bool) else node.value + 1)]
    if not isinstance(node, ast.Call):
        return []
    found = []
    if len(node.args) > 1 and not isinstance(node.args[0], ast.Starred) and not isinstance(node.args[1], ast.Starred):
        found.append(ast.Call(node.func, [node.args[1], node.args[0], *node.args[2:]], node.keywords))
    if isinstance(node.func, ast.Attribute) and node.func.attr in CALLED:
        found.append(
            ast.Call(ast.Attribute(node.func.value, CALLED[node.func.attr], ast.Load()), node.args, node.keywords)
        )
    for index in range(len(node.keywords)):
        found.append(ast.Call(node.func, node.args, node.keywords[:index] + node.keywords[index + 1 :]))
    return found


def places(node: ast.AST) -> list[tuple[ast.AST, str, int | None]]:
    """(parent, field, index) of every node that may be changed."""
    found = []
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list"):
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST) and not isinstance(child, SKIPPED):
                found += [(node, field, index), *places(child)]
    return found


def mutants(source: str) -> list[tuple[int, str, str]]:
    """(line, description of the change, changed source) of every mutant; mutants with equal source are listed once."""
    tree, found, seen = ast.parse(source), [], set()
    count = len(places(tree))
    for place in range(count):
        parent, field, index = places(tree)[place]
        node = getattr(parent, field) if index is None else getattr(parent, field)[index]
        for number in range(len(changes(node))):
            other = copy.deepcopy(tree)
            parent, field, index = places(other)[place]
            node = getattr(parent, field) if index is None else getattr(parent, field)[index]
            change = changes(node)[number]
            if index is None:
                setattr(parent, field, change)
            else:
                getattr(parent, field)[index] = change
            text = ast.unparse(ast.fix_missing_locations(other))
            if text not in seen:
                seen.add(text)
                found.append((node.lineno, f"{ast.unparse(node)}  →  {ast.unparse(change)}", text))
    return found


def run(path: Path, text: str, tests: tuple[str, ...], limit: float) -> str:
    """Runs the tests of one mutant; returns "killed", "timeout" or "survived"."""
    child = os.fork()
    if not child:
        os.setsid()
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1), os.dup2(silence, 2)
        read, stats = SourceFileLoader.get_data, SourceFileLoader.path_stats
        sys.dont_write_bytecode = True
        SourceFileLoader.get_data = lambda self, name: text.encode() if Path(name) == path else read(self, name)
        # A time that differs from the compiled file's makes Python read the source.
        SourceFileLoader.path_stats = lambda self, name: (
            stats(self, name) | ({"mtime": 1} if Path(name) == path else {})
        )
        sys.path.insert(0, str(ROOT))
        # The warning is about libraries with pytest plugins, which are imported already. The mutated file is no
        # argument of pytest, which would read the original from disk.
        failed = pytest.main([*tests, "-x", "-q", "-n0", "-W", "ignore::pytest.PytestAssertRewriteWarning"])
        if not failed:
            module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
            failed = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS).failed
        os._exit(int(failed > 0))
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return "survived" if status == 0 else "killed"
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout"


def main(argv) -> None:
    del argv
    os.chdir(ROOT)
    only, _, line = ONLY.value.partition(":")
    score, survivors = {}, []
    for name, tests in TESTS.items():
        path = ROOT / "gpmjax" / name
        if only not in f"gpmjax/{name}":
            continue
        source = path.read_text(encoding="utf-8")
        drawn = [mutant for mutant in mutants(source) if not line or mutant[0] == int(line)]
        drawn = sorted(random.Random(f"{SEED.value} {name}").sample(drawn, -(-len(drawn) // EVERY.value)))
        if run(path, source, tests, LIMIT.value) != "survived":
            raise SystemExit(f"{name}: its tests fail before anything is changed")
        if run(path, "raise SystemError", tests, LIMIT.value) != "killed":
            raise SystemExit(f"{name}: its tests do not read it")
        counts = score[name] = {"killed": 0, "timeout": 0, "survived": 0}
        for number, change, text in drawn:
            outcome = run(path, text, tests, LIMIT.value)
            counts[outcome] += 1
            if outcome == "survived":
                survivors.append(f"gpmjax/{name}:{number}: {change}")
                print(survivors[-1], flush=True)
        print(name, counts, flush=True)
    dead = sum(counts["killed"] + counts["timeout"] for counts in score.values())
    total = dead + len(survivors)
    print(f"{dead} of {total} mutants killed")
    if OUT.value:
        machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        facts = {
            "date": time.strftime("%Y-%m-%d"),
            "every": EVERY.value,
            "seed": SEED.value,
            "only": ONLY.value,
            "machine": machine,
        }
        text = json.dumps({**facts, "files": score, "survivors": survivors}, indent=1, ensure_ascii=False)
        Path(OUT.value).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    app.run(main)
