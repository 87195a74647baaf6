"""One group's embeddings and scores under a model, from which the preference circle and the score map are drawn."""

from typing import Any

import numpy as np

from gpmjax.data.encode import EncodedGroup
from gpmjax.models.scores import PreferenceOutput, group_scores, prompt_scale

LABEL_LENGTH = 40


def example(group: EncodedGroup, output: PreferenceOutput, tokenizer: Any) -> dict[str, Any]:
    """JSON-ready embeddings, gate and all K×K scores of a group that stands alone in the first row of a batch.

    ``texts`` is what the model read of it, hence cut where encoding cut it: {"prompt": with its special tokens, which
    show who speaks, "responses": without}. ``labels`` are short names of the responses, ``tau`` turns scores into P =
    σ(s/τ).
    """
    count = len(group.responses)
    tokens = [group.sequence(n)[2] for n in range(count)]
    responses = [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in tokens]
    found = {
        "title": group.where,
        "labels": [text[:LABEL_LENGTH] for text in responses],
        "texts": {"prompt": tokenizer.decode(group.prompt), "responses": responses},
        "tau": float(output.tau),
        "scores": np.asarray(group_scores(output)[0, :count, :count]).tolist(),
    }
    # A reward has no picture of its own.
    if output.embedding.shape[-1] > 1:
        found["embedding"] = np.asarray(output.embedding[0, :count]).tolist()
        if output.reward is not None:  # a hybrid's, the first block of its embedding
            found["reward"] = np.asarray(output.reward[0, :count]).tolist()
    if output.scale is not None:
        found["scale"] = prompt_scale(np.asarray(output.scale[0, :count])).tolist()
    return found
