"""Image preprocessing equivalent to a transformers model's image processor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional
from transformers import AutoImageProcessor

from legit_embedding.models.pixels import Pixels
from legit_embedding.prep.images.decoding import jpeg_pixels, loaded, opened
from legit_embedding.prep.images.header import check_pixels, refusing_bad_data
from legit_embedding.prep.images.opening import eight_bit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from legit_embedding.models.checkpoint import Checkpoint

_PLAIN_MODES = frozenset({"RGB", "L"})
# Processors with the standard order of steps (resize, crop, then rescale and normalise) or an equivalent order.
_USUAL = frozenset(
    {"TorchvisionBackend", "BaseImageProcessorFast", "DINOv3ViTImageProcessor", "DINOv3ViTImageProcessorFast"}
)
_STEPS = ("_preprocess", "preprocess", "resize", "center_crop")
_RESAMPLING = {2: functional.InterpolationMode.BILINEAR, 3: functional.InterpolationMode.BICUBIC}
_TRIAL_SHAPES = ((64, 48), (48, 64))


class ProcessorTransform:
    """Resize and crop of an image processor; rescaling and normalising are left to the device, as `pixels`.

    A processor's standard steps are run here on decoded bytes, with the same functions. Any other processor is called
    itself. Like the processor, this ignores EXIF orientation and takes the first frame of an animation.

    Args:
        processor: a processor whose output has a fixed shape.

    Raises:
        ValueError: the processor's output varies in shape.
    """

    def __init__(self, processor: Any) -> None:  # noqa: ANN401 - the library has no common type
        self._processor = processor
        self._edge = _entry(processor.size, "shortest_edge")
        self._fast = _takes_usual_steps(processor)
        rescales, normalises = processor.do_rescale is not False, processor.do_normalize is not False
        self.pixels = Pixels(
            processor.image_mean if normalises else (0.0,) * 3,
            processor.image_std if normalises else (1.0,) * 3,
            processor.rescale_factor if rescales else 1.0,
        )
        shapes = {self._asked(Image.new("RGB", size)).shape[1:] for size in _TRIAL_SHAPES}
        if len(shapes) > 1:
            message = (
                "its images keep their own shapes and make no batch; use a model whose processor crops or squashes"
            )
            raise ValueError(message)
        height, width = shapes.pop()
        self.size = (int(height), int(width))

    def __call__(self, data: bytes, max_pixels: int) -> NDArray[np.uint8]:
        """Like `read`, but return only the pixels."""
        return self.read(data, max_pixels)[0]

    def read(self, data: bytes, max_pixels: int) -> tuple[NDArray[np.uint8], bool]:
        """Decode and transform one image file to uint8 ``[3, H, W]``, RGB; the flag is True if it lacked its last rows.

        Raises:
            TaskError: ``undecodable``, or ``too_large`` beyond `max_pixels`.
        """
        data, image, repaired = opened(data, max_pixels)
        height, width = self._resized(image.height, image.width)
        check_pixels(width, height, max_pixels)  # resizing a strip of 60,000 by 1 would exceed any limit
        with refusing_bad_data():
            decoded, completed = (
                jpeg_pixels(image, data) if self._fast and image.mode in _PLAIN_MODES else (None, False)
            )
            repaired |= completed
            if decoded is None:
                image, completed = loaded(image, data, max_pixels)
                repaired |= completed
                image = eight_bit(image)
            if not self._fast:
                blends = self._processor.do_convert_rgb and _is_transparent(image)
                return self._asked(_on_white(image) if blends else image.convert("RGB")), repaired
            pixels = _plain(image, on_white=self._processor.do_convert_rgb) if decoded is None else decoded
            pixels = pixels.expand(3, -1, -1)
            if self._processor.do_resize is not False:
                mode = _RESAMPLING[int(self._processor.resample)]
                pixels = functional.resize(pixels, [height, width], interpolation=mode, antialias=True)
            found: NDArray[np.uint8] = np.ascontiguousarray(self._cropped(pixels).numpy())
            return found, repaired

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if self._edge is None:
            return self.size
        short, long = min(height, width), max(height, width)
        grown = int(self._edge * long / short)
        return (grown, self._edge) if width <= height else (self._edge, grown)

    def _cropped(self, pixels: torch.Tensor) -> torch.Tensor:
        if not self._processor.do_center_crop:
            return pixels
        height, width = self.size
        high, wide = max(0, height - pixels.shape[1]), max(0, width - pixels.shape[2])
        if high or wide:
            pixels = functional.pad(pixels, [wide // 2, high // 2, (wide + 1) // 2, (high + 1) // 2])
        top, left = (pixels.shape[1] - height) // 2, (pixels.shape[2] - width) // 2
        cropped: torch.Tensor = pixels[:, top : top + height, left : left + width]
        return cropped

    def _asked(self, image: Image.Image) -> NDArray[np.uint8]:
        made = self._processor(images=image, do_rescale=False, do_normalize=False, return_tensors="pt")
        pixels = made["pixel_values"][0]
        found: NDArray[np.uint8] = pixels.float().round().clamp(0, 255).to(torch.uint8).numpy()
        return found


def _plain(image: Image.Image, *, on_white: bool) -> torch.Tensor:
    """Return the pixels in one or three channels."""
    if on_white and _is_transparent(image):
        return _tensor(_on_white(image))
    if image.mode in _PLAIN_MODES:
        return _tensor(image)
    image.info.pop("transparency", None)  # not used in RGB, and Pillow would warn
    return _tensor(image.convert("RGB"))


def read_processor(checkpoint: Checkpoint) -> ProcessorTransform:
    """Read the model's image processor.

    Raises:
        ConfigError: it is missing or unsupported.
    """

    def read() -> ProcessorTransform:
        make: Any = AutoImageProcessor
        return ProcessorTransform(make.from_pretrained(checkpoint.source, use_fast=True, **checkpoint.hub))

    made: ProcessorTransform = checkpoint.guarded(read)
    return made


def _takes_usual_steps(processor: Any) -> bool:  # noqa: ANN401
    owners = [next((base.__name__ for base in type(processor).__mro__ if step in vars(base)), "") for step in _STEPS]
    usual = owners[0] in _USUAL and all(owner in _USUAL | {"BaseImageProcessor"} for owner in owners[1:])
    sizes = set(dict(processor.size)) if processor.size else set()
    shaped = {key for key in sizes if _entry(processor.size, key)} in ({"shortest_edge"}, {"height", "width"})
    pads = bool(getattr(processor, "do_pad", False))
    return usual and shaped and not pads and int(processor.resample or 0) in _RESAMPLING


def _entry(size: Any, key: str) -> int | None:  # noqa: ANN401
    found = dict(size).get(key) if size else None
    return int(found) if found else None


def _is_transparent(image: Image.Image) -> bool:
    return "A" in image.getbands() or image.info.get("transparency") is not None


def _on_white(image: Image.Image) -> Image.Image:
    """Blend with white, as the library does."""
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.atleast_3d(np.array(image))).permute(2, 0, 1)
