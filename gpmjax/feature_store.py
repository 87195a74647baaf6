"""Features of a frozen backbone, computed once per distinct text and kept on disk.

A feature is the hidden states at a response's last token and at its prompt's last token, f32 [D] each. Its key is a
hash of the token ids, which depend on template, text and truncation; the model's fingerprint names the directory. So
features of another model, template, text or truncation are never found. Shards are written whole or not at all and
carry a checksum: a damaged shard is reported, removed, and computed again.
"""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from gpmjax.files import replacing
from gpmjax.models.config import require_one_of

KEY_BYTES = 16


def text_key(prompt: Sequence[int] | np.ndarray, prompt_end: int, response: Sequence[int] | np.ndarray) -> bytes:
    """The key of a prompt with one response."""
    header = np.asarray([len(prompt), prompt_end], np.int32)
    data = np.concatenate([header, np.asarray(prompt, np.int32), np.asarray(response, np.int32)])
    return hashlib.sha256(data.tobytes()).digest()[:KEY_BYTES]


class FeatureStore:
    """Append-only shards of features under ``directory/fingerprint``.

    Args:
      access: "write" for the first host, "read" for the others, which keep new features in memory only.

    Raises:
      ValueError: a shard under this fingerprint has another hidden size.
    """

    def __init__(self, directory: Path, fingerprint: str, hidden_size: int, access: str = "write"):
        require_one_of("access", access, ("write", "read"))
        self._access = access
        self._directory = Path(directory) / fingerprint
        self._directory.mkdir(parents=True, exist_ok=True)
        self._hidden_size = hidden_size
        self._place: dict[bytes, int] = {}
        self._response: list[np.ndarray] = []
        self._prompt: list[np.ndarray] = []
        for path in sorted(self._directory.glob("features-*.safetensors")):
            self._load(path)

    def __contains__(self, key: bytes) -> bool:
        return key in self._place

    def __len__(self) -> int:
        return len(self._place)

    def _load(self, path: Path) -> None:
        try:
            with safe_open(path, framework="numpy") as file:
                arrays = {name: file.get_tensor(name) for name in ("keys", "response", "prompt")}
                expected = (file.metadata() or {}).get("sha256")
        except (SafetensorError, OSError) as error:
            return self._discard(path, str(error).splitlines()[0])
        if expected != _checksum(arrays):
            return self._discard(path, "its checksum differs")
        if arrays["response"].shape[1] != self._hidden_size:
            raise ValueError(
                f"{path}: features of hidden size {arrays['response'].shape[1]}, the model has {self._hidden_size}; "
                f"remove this cache directory"
            )
        self._remember(arrays)

    def _discard(self, path: Path, reason: str) -> None:
        logging.warning("%s: torn feature shard (%s); its texts are encoded again", path, reason)
        if self._access == "write":
            path.unlink(missing_ok=True)

    def _remember(self, arrays: dict[str, np.ndarray]) -> None:
        for key, response, prompt in zip(arrays["keys"], arrays["response"], arrays["prompt"], strict=True):
            self._place[key.tobytes()] = len(self._response)
            self._response.append(response)
            self._prompt.append(prompt)

    def add(self, keys: Sequence[bytes], response: np.ndarray, prompt: np.ndarray) -> None:
        """Stores features [N, D] f32 as one shard.

        Raises:
          FloatingPointError: a hidden state is not finite.
        """
        if not (np.isfinite(response).all() and np.isfinite(prompt).all()):
            raise FloatingPointError(f"{self._directory}: the backbone gave hidden states that are not finite")
        arrays = {
            "keys": np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES),
            "response": np.ascontiguousarray(response, np.float32),
            "prompt": np.ascontiguousarray(prompt, np.float32),
        }
        if self._access == "write":
            self._write(arrays)
        self._remember(arrays)

    def _write(self, arrays: dict[str, np.ndarray]) -> None:
        # The name is a hash of the content, so two processes that share a cache do not overwrite each other.
        checksum = _checksum(arrays)
        path = self._directory / f"features-{checksum[:16]}.safetensors"
        with replacing(path) as partial:
            save_file(arrays, partial, metadata={"sha256": checksum})

    def places(self, keys: Sequence[bytes]) -> list[int]:
        """The indices of keys, all of which are in the store."""
        return [self._place[key] for key in keys]

    def read(self, places: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """The (response, prompt) features [N, D] at some indices."""
        return np.stack([self._response[n] for n in places]), np.stack([self._prompt[n] for n in places])


def _checksum(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in ("keys", "response", "prompt"):
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
