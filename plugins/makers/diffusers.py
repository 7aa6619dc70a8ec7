"""Any inpainting pipeline of diffusers that lies in a folder, as `save_pretrained` writes them.

The terms of its weights are those of whoever made them: say them with `--license`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from deeploc_bench_plugins.makers import Images, Masks, needed, padded
from PIL import Image

from deeploc_bench import PluginError

diffusers, torch = needed("diffusers", "diffusers"), needed("torch", "diffusers")

REFERENCE = "https://huggingface.co/docs/diffusers/api/pipelines/auto_pipeline"
SIDE = 8
"""What the sides of an image are padded to multiples of, unless the pipeline's autoencoder asks for more."""


def inpaint(
    images: Images,
    masks: Masks,
    random: np.random.Generator,
    *,
    model: Path,
    prompt: str = "",
    steps: int = 50,
    guidance: float = 7.5,
    strength: float = 1.0,
    device: str = "cpu",
    half: bool = False,
) -> Images:
    """Fill by diffusion: `model` is the pipeline's folder, `half` computes in 16 bits; each image has its own seed."""
    pipeline = _loaded(model, device, half)
    multiple = max(SIDE, getattr(pipeline, "vae_scale_factor", SIDE))
    filled = []
    for image, mask in zip(images, masks, strict=True):
        given, hole = padded(image, multiple), padded(mask, multiple)
        (made,) = pipeline(
            prompt=prompt,
            image=Image.fromarray(given),
            mask_image=Image.fromarray(hole.astype(np.uint8) * 255),
            height=given.shape[0],
            width=given.shape[1],
            num_inference_steps=steps,
            guidance_scale=guidance,
            strength=strength,
            generator=torch.Generator("cpu").manual_seed(int(random.integers(2**63))),
            output_type="np",
        ).images
        if made.shape != given.shape:
            raise PluginError(f"{model} made {made.shape} of an image of {given.shape}; give images that it takes")
        filled.append(np.rint(made[: image.shape[0], : image.shape[1]] * 255).astype(np.uint8))
    return np.stack(filled)


@cache
def _loaded(model: Path, device: str, half: bool) -> Any:
    """Load a pipeline once, without a safety checker, which would blacken images, and without its bars."""
    if not (model / "model_index.json").is_file():
        raise PluginError(f"option model={model}: that is no folder of a diffusers pipeline (model_index.json)")
    index = diffusers.DiffusionPipeline.load_config(model, local_files_only=True)
    unchecked = {"safety_checker": None, "requires_safety_checker": False} if "safety_checker" in index else {}
    pipeline = diffusers.AutoPipelineForInpainting.from_pretrained(model, local_files_only=True, **unchecked)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device=device, dtype=torch.float16 if half else torch.float32)
