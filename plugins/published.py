"""Where published weights lie: in the Hugging Face cache, or else downloaded into it.

No plugin itself: a part of those that build on it, and of what identifies their trainings.
"""

from __future__ import annotations

from textwrap import shorten

from deeploc_bench import WeightsError

FILE = "model.safetensors"


def published(repository: str, revision: str | None = None, *, whose: str, model: str) -> str:
    """Return the file of a repository's weights; asks the network only for what is not cached, and once.

    `whose` says of what of a model they are. Raises WeightsError where they cannot be had.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

    cached = try_to_load_from_cache(repository, FILE, revision=revision)
    if isinstance(cached, str):
        return cached
    try:
        get_hf_file_metadata(hf_hub_url(repository, FILE, revision=revision), timeout=5.0)
        return hf_hub_download(repository, FILE, revision=revision)
    except Exception as error:
        raise WeightsError(
            f"model {model!r}: its {whose}'s weights, {repository}/{FILE} (revision {revision or 'main'}), "
            f"are not in the Hugging Face cache {constants.HF_HUB_CACHE} and cannot be downloaded: {reason_of(error)}. "
            "Begin at random with --set weights=none; or name a file with --set weights=FILE.safetensors; or run "
            f"`deeploc-bench weights fetch {model}` on a machine with a network, copy its Hugging Face cache here, let "
            "HF_HOME point to it and set HF_HUB_OFFLINE=1."
        ) from error


def reason_of(error: Exception) -> str:
    """Return the first lines of an error as one, each shortened; its type where it says nothing."""
    lines = [shorten(line, 200, placeholder=" ...") for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:4]).rstrip(".") or type(error).__name__
