"""Serve a preference model's rewards to trainers in other processes, in OpenRLHF's protocol:

    gpmjax serve --model=runs/gpm/model --against=group --group_size=8
    gpmjax serve --model=runs/gpm/model --against=reference

and then --reward.remote_url http://HOST:5000/get_reward in OpenRLHF, or GPMJAX_URL=http://HOST:5000/get_reward for verl
(gpmjax/interop). --group_size is the number of completions that the trainer samples for a prompt; each waits here until
the group is complete. Whoever reaches the port may ask: there is no password. SIGTERM and SIGINT finish the answers
under way.
"""

import signal
import sys
import threading

from absl import flags, logging

from gpmjax.config.flags import judge_flags
from gpmjax.interop.gather import Gathered
from gpmjax.interop.reward_model import PROMPTS, RewardModel
from gpmjax.interop.rewards import AGAINST, UNITS
from gpmjax.interop.server import PATH, RewardServer

AGAINST_ = flags.DEFINE_enum("against", None, AGAINST, "What a completion is compared with.", required=True)
UNITS_ = flags.DEFINE_enum("units", "log_odds", UNITS, "s/τ, s, or σ(s/τ).")
GROUP = flags.DEFINE_integer(
    "group_size", 0, "Completions of a prompt that wait for each other; 0: a request holds whole groups.", 0
)
WAIT = flags.DEFINE_float("group_timeout", 150.0, "Seconds to wait for a group; OpenRLHF asks again after 180.", 0.0)
PROMPTS_ = flags.DEFINE_enum(
    "prompts", "user", PROMPTS, "What a prompt is: a message of the user, or a text from the chat template."
)
ENDING = flags.DEFINE_string(
    "ending", "", "What the policy ends answers with and is no part of their text, such as <|eot_id|>."
)
JUDGE = judge_flags(defaults={"rows": 1})
HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; 0.0.0.0: every one.")
PORT = flags.DEFINE_integer("port", 5000, "0 takes a free one.", 0, 65535)
MAX_BODY = flags.DEFINE_integer("max_megabytes", 64, "Size of a request.", 1)


def serve() -> None:
    """Until a signal comes."""
    if GROUP.value and AGAINST_.value != "group":
        raise ValueError(
            f"--group_size={GROUP.value} with --against={AGAINST_.value}: only --against=group needs to wait for a "
            f"group"
        )
    judge = JUDGE().validate()
    model = RewardModel(
        against=AGAINST_.value, units=UNITS_.value, prompts=PROMPTS_.value, ending=ENDING.value, **vars(judge)
    )
    score, header = model.opened()
    if GROUP.value:
        score = Gathered(score, GROUP.value, WAIT.value)
    with RewardServer((HOST.value, PORT.value), score, header, ENDING.value, MAX_BODY.value << 20) as server:

        def stop(*_) -> None:
            if GROUP.value:
                score.close()
            server.shutdown()

        for number in (signal.SIGTERM, signal.SIGINT):
            # In a thread: shutdown waits for serve_forever, which this very thread is in.
            signal.signal(number, lambda *_: threading.Thread(target=stop).start())
        print(f"rewards at http://{HOST.value}:{server.server_address[1]}{PATH}", flush=True)
        server.serve_forever()


def main(_: list[str]) -> None:
    """Serves until SIGTERM or SIGINT."""
    logging.set_verbosity(logging.WARNING)  # JAX warns of every backend that the machine lacks
    try:
        serve()
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
