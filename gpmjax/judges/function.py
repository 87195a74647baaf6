"""A user's function as a judge: f(prompts, responses) → log-odds, found on the Python path."""

import dataclasses
import importlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gpmjax.config.judge import JudgeConfig
from gpmjax.data.groups import Group
from gpmjax.judges.judge import Pairs, Verdict, skew_symmetric


@dataclasses.dataclass(frozen=True)
class FunctionJudge:
    """``function(prompts, responses) → [N, K, K]`` log-odds × τ.

    The function is given the conversations, as lists of {"role", "content"}, and lists of K texts; groups of another K
    are another call. Where a text is there twice, the scores of its first place hold for both.
    """

    function: Callable[[list, list], Any]
    identity: Mapping[str, Any]
    tau: float = 1.0

    def __call__(self, groups: Sequence[Group], pairs: Pairs = "labelled") -> Iterator[Verdict]:
        """See `Judge`. ``pairs`` changes nothing: the function gives every pair.

        Raises ValueError for scores of another shape, that are not finite, or not skew-symmetric.
        """
        name = self.identity["function"]
        for count, same in itertools.groupby(groups, key=lambda group: len(group.responses)):
            several = list(same)
            conversations = [[message.as_dict() for message in group.prompt] for group in several]
            found = np.asarray(self.function(conversations, [list(group.responses) for group in several]), np.float32)
            if found.shape != (expected := (len(several), count, count)):
                raise ValueError(f"{name}: gave scores of shape {found.shape}, expected {expected}")
            for group, matrix in zip(several, found, strict=True):
                first = [group.responses.index(text) for text in group.responses]
                matrix = skew_symmetric(matrix, self.tau, f"{name}: {group.where}")[np.ix_(first, first)]
                yield Verdict(matrix.astype(np.float64), self.tau, np.zeros(count, np.int64), forward_tokens=0)


def function_judge(config: JudgeConfig, name: str = "") -> FunctionJudge:
    """The judge of a config's ``function``; ``name`` stands before the field's in messages.

    Raises ValueError, one line, where the function cannot be imported.
    """
    module, _, function_name = config.function.partition(":")
    try:
        function = getattr(importlib.import_module(module), function_name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{name}function={config.function!r}: cannot be imported ({error})") from error
    tau = config.tau or 1.0
    return FunctionJudge(function, {"function": config.function, "tau": tau}, tau)
