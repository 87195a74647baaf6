"""`python launch/compare.py` and `launch/answer.py` from the command line: files, tables and one-line errors."""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpmjax.evals.policies.mt_bench import answer_record
from gpmjax.hub import load_tokenizer, save_preference_model
from gpmjax.models.config import DecoderConfig
from gpmjax.models.heads import PreferenceHeads
from gpmjax.models.spec import PreferenceSpec
from gpmjax.models.transformer import Decoder, sequence_layout
from tests.launch.programs import run_program

LAUNCH = Path(__file__).parents[2] / "launch"


def run(script, *flags):
    return run_program(LAUNCH / script, *flags)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, tokenizer_directory):
    """A tiny preference model with its decoder's output table, which serves as policy and as judge."""
    tokenizer = load_tokenizer(str(tokenizer_directory))
    config = DecoderConfig(len(tokenizer), 8, num_layers=1, num_heads=2, mlp_size=8, tie_embeddings=True)
    spec, feature = PreferenceSpec(dim=2, gate="none"), jnp.zeros((1, 1, 8))
    modules = {
        "decoder": (Decoder(config), (jnp.zeros((1, 2), jnp.int32), sequence_layout(jnp.array([2]), 2))),
        "heads": (PreferenceHeads(spec), (feature, feature)),
    }
    shapes = {
        name: jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
        for name, (module, inputs) in modules.items()
    }
    numbers = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: numbers.normal(size=leaf.shape).astype(leaf.dtype), shapes)
    directory = tmp_path_factory.mktemp("saved") / "model"
    save_preference_model(directory, params, config, spec, tokenizer)
    return directory


@pytest.fixture
def files(tmp_path):
    """A directory with twelve instructions answered by a reference, and with two questions of two turns."""
    rows = [{"instruction": f"Name {n} colours.", "output": "red " * (n % 3), "generator": "base"} for n in range(12)]
    (tmp_path / "base.json").write_text(json.dumps(rows))
    questions = [{"question_id": n, "category": "writing", "turns": ["Write.", "Again."]} for n in (81, 82)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(question) + "\n" for question in questions))
    return tmp_path


def test_a_policy_answers_and_a_preference_model_judges(saved, files):
    out = files / "gpm.json"
    flags = (
        f"--model={saved}",
        f"--instructions={files / 'base.json'}",
        "--generator=gpm",
        f"--out={out}",
        "--max_new_tokens=6",
    )
    done = run("answer.py", *flags)
    assert done.returncode == 0 and f"12 answers in {out}" in done.stdout, done.stderr
    answers = json.loads(out.read_text())
    assert [set(answer) for answer in answers] == [{"instruction", "output", "generator"}] * 12
    assert answers[0]["generator"] == "gpm"
    summary = files / "c.json"
    flags = (f"--outputs={out}", f"--reference={files / 'base.json'}", f"--judge={saved}", f"--tokenizer={saved}")
    done = run("compare.py", *flags, f"--out={summary}", "--max_length=128")
    assert done.returncode == 0, done.stderr
    (first,) = json.loads(summary.read_text())["policies"]
    assert first["win_rate"]["comparisons"] == 12
    row = next(line for line in done.stdout.splitlines() if re.search(r"\bgpm\b.*│", line))
    cells = [cell.strip() for cell in row.strip("│ ").split("│")]
    assert cells[:3] == ["gpm", "12", f"{first['win_rate']['win_rate']:.2f}"]
    assert cells[-2:] == [f"{first['lengths'][unit]['policy']['mean']:.0f}" for unit in ("characters", "tokens")]
    assert len((files / "c.gpm.rows.jsonl").read_text().splitlines()) == 12


def test_a_server_answers_both_turns(tokenizer_directory, files, http_server):
    def behave(handler, body):
        handler.reply(
            200, json.dumps({"choices": [{"index": 0, "text": f"{len(body['prompt'])}", "finish_reason": "stop"}]})
        )

    http_server.script = [lambda handler, body: handler.reply(400, "no such model")]
    flags = (
        f"--model={tokenizer_directory}",
        f"--questions={files / 'q.jsonl'}",
        f"--out={files / 'mt.jsonl'}",
        "--generator=gpm",
    )
    served = (f"--endpoint={http_server.url}", "--endpoint_model=policy")
    done = run("answer.py", *flags, *served)
    assert done.returncode == 1 and "status 400 (no such model)" in done.stderr and not (files / "mt.jsonl").exists()
    http_server.script = [behave]
    done = run("answer.py", *flags, *served)
    assert done.returncode == 0 and "2 answers" in done.stdout and "cut" not in done.stdout, done.stderr
    records = [json.loads(line) for line in (files / "mt.jsonl").read_text().splitlines()]
    assert [(record["question_id"], record["model_id"]) for record in records] == [(81, "gpm"), (82, "gpm")]
    first, second = records[0]["choices"][0]["turns"]
    assert int(second) > int(first)
    assert {body["temperature"] for _, body, _ in http_server.requests} == {0.7}


def test_a_server_judges_pairs_and_rates_turns_once(files, http_server):
    # Eight instructions are too few for the slow length-controlled fit.
    (files / "base.json").write_text(json.dumps(json.loads((files / "base.json").read_text())[:8]))
    records = [answer_record(n, "gpm", [f"one {n}", f"two {n}"], 0.0) for n in (81, 82)]
    (files / "mt.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))

    def behave(handler, body):
        prompt = body["messages"][0]["content"]
        text = ("[[4]]" if "last answer;" in prompt else "[[7]]") if "Rate how well" in prompt else "A"
        usage = {"prompt_tokens": 1000, "completion_tokens": 1}
        handler.reply(200, json.dumps({"choices": [{"message": {"content": text}}], "usage": usage}))

    http_server.script = [
        lambda handler, body: handler.reply(500, "busy"),
        lambda handler, body: setattr(handler, "close_connection", True),
        lambda handler, body: handler.reply(200, "{"),
        behave,
    ]
    flags = (
        f"--outputs={files / 'base.json'}", f"--reference={files / 'base.json'}", f"--questions={files / 'q.jsonl'}",
        f"--answers={files / 'mt.jsonl'}", f"--endpoint={http_server.url}", "--endpoint_model=judge", "--backoff=0.01",
        "--prompt_price=10", f"--out={files / 'c.json'}", "--concurrency=1",
    )  # fmt: skip
    done = run("compare.py", *flags)
    assert done.returncode == 0, done.stderr
    summary = json.loads((files / "c.json").read_text())
    assert summary["policies"][0]["win_rate"]["win_rate"] == 50
    rated = summary["mt_bench"][0]
    assert (rated["first_turn"]["mean"], rated["second_turn"]["mean"], rated["average"]["mean"]) == (7, 4, 5.5)
    assert "7.00" in done.stdout and "5.50" in done.stdout
    # The two orders of equal answers are the same prompt, so there are eight of these, and four ratings.
    assert summary["cost"]["answers"] == 12 and summary["cost"]["price"] == pytest.approx(0.12)
    assert len(http_server.requests) == 12 + 3
    again = run("compare.py", *flags)
    assert again.returncode == 0 and len(http_server.requests) == 15
    repeated = json.loads((files / "c.json").read_text())
    assert repeated["cost"].pop("this_run")["answers"] == 0 and summary["cost"].pop("this_run")["answers"] == 12
    assert repeated == summary
    ratings = [json.loads(line) for line in (files / "c.gpm-ratings.rows.jsonl").read_text().splitlines()]
    assert [(rating["question_id"], rating["turn"], rating["score"]) for rating in ratings] == [
        (81, 1, 7),
        (81, 2, 4),
        (82, 1, 7),
        (82, 2, 4),
    ]


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        ("compare.py", ["--outputs=a.json", "--reference=b.json"], "one judge is needed"),
        ("compare.py", ["--answers=a.jsonl", "--questions=q.jsonl", "--judge=smollm2"], "they need --endpoint"),
        ("answer.py", ["--model=smollm2"], "one benchmark is needed"),
    ],
    ids=["no judge", "ratings by a preference model", "no benchmark"],
)
def test_a_mistake_is_one_line_and_exit_code_1(script, flags, message, tmp_path):
    done = run(script, *flags, f"--out={tmp_path / 'c.json'}")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert message in line and "Traceback" not in done.stderr
