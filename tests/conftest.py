"""Strictness for every test: eight fake devices, no silent promotion of dtypes or ranks. And what whole runs need."""

import contextlib
import http.server
import json
import os
import random
import re
import resource
import threading

# XLA reads its flags once, when jax is imported. Tests compile much and run little, hence the optimisation level.
os.environ["XLA_FLAGS"] = " ".join(
    (
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0",
    )
).strip()
os.environ["JAX_PLATFORMS"] = os.environ.get("JAX_PLATFORMS", "cpu")
os.environ["HF_HUB_OFFLINE"] = os.environ.get("HF_HUB_OFFLINE", "1")

import hypothesis
import jax
import numpy as np
import pytest

from gpmjax.data.chat import ChatFormat
from gpmjax.evals.held_out import held_out
from gpmjax.hub import load_tokenizer
from gpmjax.judges.answer_cache import AnswerCache
from gpmjax.judges.chat_endpoint import ChatEndpoint
from gpmjax.models.config import DecoderConfig
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.spec import PreferenceSpec
from gpmjax.sampling.http import Server

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Two programs in flight, on eight fake devices and two cores, can each hold the threads that the other one's
# collectives need.
jax.config.update("jax_cpu_enable_async_dispatch", False)
hypothesis.settings.register_profile(
    "ci",
    deadline=None,  # the first example compiles
    derandomize=True,
    max_examples=25,
    database=None,
)
hypothesis.settings.load_profile("ci")


@pytest.fixture
def full_disk():
    """``with full_disk(limit)``: writing a file of this process past ``limit`` bytes fails as on a full disk."""

    @contextlib.contextmanager
    def limited(limit):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        # Python ignores the signal that comes with it.
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


@pytest.fixture(scope="session")
def tokenizer_directory(tmp_path_factory):
    """Bytes and two special tokens; padding is EOS."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["<|end|>", "<|start|>"]
    vocabulary = {token: n for n, token in enumerate([*names, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    raw = Tokenizer(models.BPE(vocabulary, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<|start|>", eos_token="<|end|>", pad_token="<|end|>"
    )
    tokenizer.chat_template = (
        "{% for m in messages %}<|start|>{{ m['role'] }}:{{ m['content'] }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant:{% endif %}"
    )
    directory = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def pairs_file(tmp_path_factory):
    """24 pairs over 8 prompts; the longer response is chosen, so that there is something to learn."""
    draw = random.Random(0)
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    rows = []
    for n in range(24):
        short, long = sorted((draw.randint(1, 9), draw.randint(10, 20)))
        rows.append({"prompt": f"question {n % 8}", "chosen": "y" * long, "rejected": "n" * short})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class HttpServer(http.server.ThreadingHTTPServer):
    """Answers requests by ``script``, a list of behaviours (handler, body): one a request, the last for all after
    it."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script, self.requests, self.lock, self.released = [], [], threading.Lock(), threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append((self.path, body, self.headers.get("Authorization")))
            behave = self.server.script[0] if len(self.server.script) == 1 else self.server.script.pop(0)
        with contextlib.suppress(OSError):  # a client disconnects when the server stalls
            behave(self, body)

    def reply(self, status, text):
        payload = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_):
        pass


@pytest.fixture
def http_server(monkeypatch):
    """A real server on the loopback interface."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with HttpServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


def _completion(text, tops=None, usage=(100, 1)):
    """An answer in OpenAI's format; ``tops`` are the likeliest tokens where the first one stands."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    if tops is not None:
        alternatives = [{"token": token, "logprob": float(np.log(p))} for token, p in tops.items()]
        said = {"token": text, "logprob": float(np.log(tops[text])), "top_logprobs": alternatives}
        choice["logprobs"] = {"content": [said]}
    answer = {"object": "chat.completion", "choices": [choice]}
    return answer | ({"usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1]}} if usage else {})


@pytest.fixture(scope="session")
def completion():
    return _completion


@pytest.fixture(scope="session")
def sides():
    """Prompt of a pair → the two responses in it."""
    return lambda prompt: re.findall(r"<response of [AB]>\n(.*?)\n</response of [AB]>", prompt, re.S)


@pytest.fixture
def replying(http_server):
    """(function of the prompt → answer) makes the server say that; so does anything else that the server can do."""

    def say(function):
        def behave(handler, body):
            handler.reply(200, json.dumps(function(body["messages"][0]["content"])))

        return behave

    return say


@pytest.fixture
def open_endpoint(http_server, tmp_path):
    def make(cache="cache.jsonl", **fields):
        server = Server(http_server.url, **(dict(timeout=20.0, retries=2, backoff=0.01) | fields))
        return ChatEndpoint(server, "judge", AnswerCache(tmp_path / cache))

    return make


# Small random models with a real tokenizer, in which padding is EOS, and a set of comparisons to put to them.

SPECS = {
    "gpm": PreferenceSpec(dim=4, gate="softmax", normalise="none", tau=0.5),
    "bt": PreferenceSpec.bradley_terry(),
}


@pytest.fixture(scope="session")
def chat():
    return ChatFormat(load_tokenizer("smollm2"))


@pytest.fixture(scope="session")
def pairs():
    """Pairs of unlike lengths, several of them sharing a prompt and responses; some tied, some tagged."""
    words = random.Random(0)

    def say(least, most):
        return " ".join(words.choices(["red", "apple", "42", "why?", "Straße"], k=words.randint(least, most)))

    rows = []
    for prompt in (say(1, 3), say(20, 30), say(5, 9)):
        responses = [say(1, 12) + f" {n}" for n in range(4)]
        for i, j in ((0, 1), (1, 2), (2, 0), (3, 1)):
            rows.append(
                {"prompt": prompt, "chosen": responses[i], "rejected": responses[j], "chosen_probs": 1 - 0.5 * (i == 3)}
            )
    return rows


@pytest.fixture(scope="session")
def write_rows(tmp_path_factory):
    """Rows → path of a new jsonl file that holds them."""

    def write(rows):
        path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write


@pytest.fixture(scope="session", params=SPECS)
def model_and_params(request, chat, pairs, write_rows):
    """Parameters large enough that a score moves as soon as a token, a position or the gate does."""
    config = DecoderConfig(
        vocab_size=len(chat.tokenizer), hidden_size=16, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8,
        mlp_size=24, rope_theta=300.0, layer_types=("sliding", "sliding"), window=7, tie_embeddings=True,
    )  # fmt: skip
    model = PreferenceModel(config, SPECS[request.param])
    (batch, *_) = held_out(write_rows(pairs), chat, max_length=128, rows_per_batch=1).batches()
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)["params"]
    numbers = np.random.default_rng(1)
    return model, jax.tree.map(lambda leaf: numbers.normal(0, 0.4, leaf.shape).astype(leaf.dtype), shapes)
