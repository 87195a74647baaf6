"""Determines a saved preference model's head from its tensors, its config.json, and the caller's declaration.

Tensor shapes give the kind of head and its sizes. They do not show how the gate's logits become λ, nor whether
embeddings have unit length. Models of one author differ in both, and a score computed the wrong way still looks like a
score. So both must be declared, by config.json under "gpmjax" or by the caller; they are never guessed.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from gpmjax.checks import number
from gpmjax.data.questions import question_for, question_named, verdict_tokens
from gpmjax.hub.source import CONFIG_FILE, DECLARATION, Source
from gpmjax.models.spec import GATES, KINDS, MLP_ACTIVATIONS, NORMALISATIONS, PreferenceSpec

VALUE, GATE, SCORE = "value_head.weight", "prompt_head.weight", "score.weight"
LOG_TAU = "log_tau"
"""Field of a declaration with a learned temperature's exact log τ; the spec's tau is its rounded exponential."""
_HEAD_TENSOR = re.compile(r"(value_head|prompt_head|score)\.")
_CHOICES = {"kind": KINDS, "gate": GATES, "normalise": NORMALISATIONS, "mlp_activation": tuple(MLP_ACTIVATIONS)}


def is_head_tensor(name: str) -> bool:
    """Whether a tensor belongs to a preference head.

    >>> is_head_tensor("prompt_head.net.0.bias"), is_head_tensor("model.norm.weight")
    (True, False)
    """
    return _HEAD_TENSOR.match(name) is not None


def saved_spec(source: Source, declare: Mapping[str, Any] | None) -> PreferenceSpec:
    """The PreferenceSpec of a saved model.

    Args:
        source: the model.
        declare: fields of a PreferenceSpec that the caller declares; they may not contradict config.json.

    Raises:
        ValueError: there is no head; a field must be declared; or the declaration, config.json and tensors disagree.
    """
    declare = dict(declare or {})
    seen = _seen(source, source.declared or declare)
    standard = _standard_reward(source)
    if source.declared:
        fields = {name: value for name, value in source.declared.items() if name != LOG_TAU}
        if LOG_TAU in source.declared:
            number(f"{source.label}/{CONFIG_FILE}: {DECLARATION}.{LOG_TAU}", source.declared[LOG_TAU])
        spec = _from_dict(standard | fields, f"{source.label}/{CONFIG_FILE}: {DECLARATION}")
        for name, value in standard.items():
            if getattr(spec, name) != value:
                raise ValueError(
                    f"{source.label}/{CONFIG_FILE}: {DECLARATION}.{name} is {getattr(spec, name)}, "
                    f"{_OPENRLHF[name]} is {value}; must be equal"
                )
        said = spec.to_dict()
        for name, value in declare.items():
            if name in said and said[name] != value:
                raise ValueError(
                    f"{source.label}: {CONFIG_FILE} says {name}={said[name]!r}, the caller {value!r}; must be equal"
                )
        _from_dict(said | declare, "declare")  # refuses unknown fields
    else:
        _require_declared(source, seen, declare)
        # The model was trained with τ = 1 on the reward before division by std; this τ gives the same probabilities.
        tau = 1 / (standard | declare).get("reward_std", 1.0)
        assumed = {"tau": tau, "gate": "none", "normalise": "none"} if seen["dim"] == 1 else {}
        assumed |= standard
        if seen["head"] == "verdict" and "question" in declare:
            question = question_named(declare["question"])
            assumed |= {"kind": "pairwise" if question.pairwise else "bt", "verdicts": question.verdicts}
        kind = "bt" if seen["dim"] == 1 else declare.get("kind", "gpm")
        spec = _from_dict({"kind": kind} | assumed | seen | declare, source.label)
    _check_against_tensors(source, spec, seen)
    return spec


def resolved(spec: PreferenceSpec, tokenizer: Any) -> PreferenceSpec:
    """The spec with the tokens of its verdicts, if it has a verdict head.

    Raises:
        ValueError: a verdict is not one token, or not the token that was saved; or the question does not fit the kind.
    """
    question_for(spec.question, spec.kind)
    if spec.head != "verdict":
        return spec
    found = verdict_tokens(spec.verdicts, tokenizer)
    if spec.verdict_tokens not in ((), found):
        raise ValueError(
            f"verdict_tokens={spec.verdict_tokens}: must be {found}, as the tokenizer writes {spec.verdicts}"
        )
    return dataclasses.replace(spec, verdict_tokens=found)


def _seen(source: Source, said: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that the tensors determine: dim, head, mlp_widths; and gate="none" if there is no gate.

    ``said`` is the declaration of the model or the caller. It says what tensors cannot: that the head is a verdict,
    which has no tensors, or that the first of a hybrid's 1 + 2k outputs is a reward.
    """
    names = set(source.names())
    if said.get("head") == "verdict":
        if any(is_head_tensor(name) for name in names):
            raise ValueError(f"{source.label}: head is declared as 'verdict', but the model has a saved head")
        return {"dim": 1, "head": "verdict", "mlp_widths": [], "gate": "none"}
    nets = sorted(
        int(match[1]) for name in names if (match := re.fullmatch(r"value_head\.net\.([0-9]{1,4})\.weight", name))
    )
    if nets:
        widths = [_outputs(source, f"value_head.net.{layer}.weight") for layer in nets]
        seen: dict[str, Any] = {"dim": widths[-1], "head": "mlp", "mlp_widths": widths[:-1]}
    elif table := next((name for name in (VALUE, SCORE) if name in names), None):
        seen = {"dim": _outputs(source, table), "head": "linear", "mlp_widths": []}
    else:
        raise ValueError(
            f"{source.label}: no saved head, looked for {VALUE}, value_head.net.0.weight and {SCORE}; "
            "load_decoder reads a backbone for a new one"
        )
    if said.get("kind") == "hybrid":
        seen["dim"] -= 1
    if seen["dim"] != 1 and (seen["dim"] % 2 or seen["dim"] < 2):
        outputs = seen["dim"] + (said.get("kind") == "hybrid")
        raise ValueError(
            f"{source.label}: the head gives {outputs} numbers; allowed: 1 (a reward), an even number (2k), or an odd "
            "number (1 + 2k) if the model is declared as kind='hybrid'"
        )
    return seen if any(name.startswith("prompt_head.") for name in names) else seen | {"gate": "none"}


_OPENRLHF = {"reward_mean": "mean", "reward_std": "std"}


def _standard_reward(source: Source) -> dict[str, float]:
    """The mean and standard deviation of a reward that OpenRLHF writes into config.json, measured over a data set.

    In OpenRLHF the caller who loads the model, not the file, chooses between (r − mean)/std and r. Here the reward is
    (r − mean)/std, unless the caller declares reward_mean = 0 and reward_std = 1.
    """
    given = {ours: source.hf_config[theirs] for ours, theirs in _OPENRLHF.items() if theirs in source.hf_config}
    if not given:
        return {}
    if len(given) == 1:
        raise ValueError(f"{source.label}/{CONFIG_FILE}: has {_OPENRLHF[min(given)]} alone; must have mean and std")
    number(f"{source.label}/{CONFIG_FILE}: mean", given["reward_mean"])
    number(f"{source.label}/{CONFIG_FILE}: std", given["reward_std"], above=0)
    return {name: float(value) for name, value in given.items()}


def _outputs(source: Source, name: str) -> int:
    """Outputs of a head's matrix, which is [out, in]."""
    shape = source.tensors.shape(name)
    if len(shape) != 2:
        raise ValueError(f"{source.label}: tensor {name} has shape {shape}; must have two axes, [out, in]")
    return shape[0]


def _require_declared(source: Source, seen: Mapping[str, Any], declare: Mapping[str, Any]) -> None:
    needed = [] if seen["dim"] == 1 else [name for name in ("gate", "normalise") if name not in seen]
    if seen["dim"] != 1 and SCORE in source.names():
        needed.insert(0, "kind")  # ``score`` may be the head of any classifier
    if seen["head"] == "mlp":
        needed.append("mlp_activation")
    missing = [name for name in needed if name not in declare]
    if missing:
        choices = "; ".join(f"{name}: one of {', '.join(_CHOICES[name])}" for name in missing)
        raise ValueError(f"{source.label}: nothing declares {' and '.join(missing)}; pass declare with {choices}")


def _check_against_tensors(source: Source, spec: PreferenceSpec, seen: Mapping[str, Any]) -> None:
    said = spec.to_dict()
    for name in ("dim", "head", "mlp_widths"):
        if said[name] != seen[name]:
            raise ValueError(f"{source.label}: {name} is declared as {said[name]!r}, its tensors say {seen[name]!r}")
    if (spec.gate == "none") != (seen.get("gate") == "none"):
        held = "no prompt_head" if seen.get("gate") == "none" else "a prompt_head, which would be dropped"
        raise ValueError(f"{source.label}: gate is declared as {spec.gate!r}, but the model holds {held}")


def _from_dict(fields: Mapping[str, Any], label: str) -> PreferenceSpec:
    try:
        return PreferenceSpec.from_dict(dict(fields))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{label}: {error}") from error
