"""What all iterations of a policy run share: its config, its first policy, its directories and its random seeds."""

import dataclasses
from pathlib import Path

import numpy as np
from jax.sharding import Mesh

from gpmjax.config.improve import ImproveConfig, PromptsConfig, RolloutConfig
from gpmjax.data.chat import ChatFormat
from gpmjax.data.prompts import EncodedPrompt, encode_prompts, read_prompts
from gpmjax.improve import stages
from gpmjax.train.backbone import OpenDecoder, open_decoder
from gpmjax.train.loop import StopRequest
from gpmjax.version import __version__


@dataclasses.dataclass(frozen=True)
class PolicyRun:
    """One call of ``improve``."""

    config: ImproveConfig
    workdir: Path
    mesh: Mesh
    stop: StopRequest
    base: OpenDecoder
    """The policy that the run begins with."""
    prompts: list[EncodedPrompt]
    """Of all iterations."""

    @classmethod
    def begin(cls, config: ImproveConfig, workdir: Path, mesh: Mesh, stop: StopRequest) -> "PolicyRun":
        """Opens the first policy, of which no weights are read yet, and reads the prompts."""
        base = open_decoder(config.policy, mesh, config.seed)
        return cls(config, workdir, mesh, stop, base, encoded_prompts(config, base, config.prompts, "prompts"))

    def policy(self, iteration: int) -> OpenDecoder:
        """The policy that an iteration made; 0 is the one that the run begins with."""
        if not iteration:
            return self.base
        source = str(self.folder(iteration) / "policy")
        return open_decoder(
            dataclasses.replace(self.config.policy, source=source, tokenizer=""), self.mesh, self.config.seed
        )

    @property
    def answers(self) -> Path:
        """The file that keeps the answers of a chat model that judges."""
        return self.workdir / "answers.jsonl"

    def folder(self, iteration: int) -> Path:
        """Where an iteration leaves its files."""
        return self.workdir / f"iteration-{iteration}"

    def read_prompts(self, config: PromptsConfig, name: str) -> list[EncodedPrompt]:
        """A source's prompts; see `encoded_prompts`."""
        return encoded_prompts(self.config, self.base, config, name)

    def facts(self, stage: str, iteration: int) -> dict[str, str]:
        """The metadata of a stage's files."""
        return {"gpmjax": __version__, "stage": stage, "iteration": str(iteration), "seed": str(self.config.seed)}

    def sampling_seed(self, *key: int) -> int:
        """A seed of its own for every iteration and purpose."""
        return int(np.random.SeedSequence([self.config.seed, *key]).generate_state(1)[0])

    def open_rollout(self, config: RolloutConfig, policy: OpenDecoder, number: int, chat: ChatFormat) -> stages.Rollout:
        """The policy that iteration ``number`` samples from: on these devices, or behind the endpoint."""
        if not config.endpoint:
            return stages.local_rollout(config, policy, chat, self.mesh)
        return stages.endpoint_rollout(config, chat, config.model_of(number))


def encoded_prompts(config: ImproveConfig, base: OpenDecoder, source: PromptsConfig, name: str) -> list[EncodedPrompt]:
    """A source's prompts, all of which leave the policy room for a response.

    Args:
      name: of ``source`` in the config, such as "judge.prompts".

    Raises:
      FileNotFoundError, ValueError: no such source, or a prompt that cannot be used; one line.
    """
    positions, new_tokens = base.model.config.max_positions, config.rollout.max_new_tokens
    if source.max_length > positions - new_tokens:
        raise ValueError(
            f"config.{name}.max_length={source.max_length}: with rollout.max_new_tokens={new_tokens} it must be at "
            f"most {positions - new_tokens}, for the policy has {positions} positions"
        )
    prompts, chat = read_prompts(source.source, source.limit), ChatFormat(base.tokenizer, template=source.template)
    return encode_prompts(prompts, chat, max_length=source.max_length, too_long=source.too_long)
