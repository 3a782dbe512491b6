"""Image files to the pixels that a model sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import functional

from legit_embedding.prep.images.decoding import jpeg_pixels, loaded, opened
from legit_embedding.prep.images.header import check_pixels, refusing_bad_data
from legit_embedding.prep.images.opening import eight_bit

if TYPE_CHECKING:
    from numpy.typing import NDArray

ResizeMode = Literal["shortest", "squash", "longest"]
Interpolation = Literal["bicubic", "bilinear"]

SAFE_SCALE = 2.0
"""The least shrinking for the fast resize. Its weights have 16 bits, Pillow's have 32, so a value between
its two passes can be one off; the less an image shrinks, the more such a value weighs in the second pass."""

_RESIZE = {
    "bicubic": torch.ops.aten._upsample_bicubic2d_aa,  # noqa: SLF001 - what `interpolate` calls, with more to say
    "bilinear": torch.ops.aten._upsample_bilinear2d_aa,  # noqa: SLF001
}

_PLAIN_MODES = frozenset({"RGB", "L"})
"""Modes in which resizing first and converting to RGB later, as open_clip does, is the same as the other way round."""


@dataclass(frozen=True, slots=True)
class ImageTransform:
    """open_clip's ``image_transform`` for inference, up to its normalisation, which is left to the device.

    Like the original it ignores EXIF orientation and transparency, and takes the first frame of an animation. Where the
    fast way is taken (a plain image that shrinks by `SAFE_SCALE` or more) the pixels are within 1/255 of the original,
    but for about one value in ten million, in very smooth images two in ten thousand, that is off by 2/255. All other
    images, and all with `exact`, are the original's to the last bit. One transform serves many threads.

    Args:
        size: the model's ``(H, W)``.
        resize_mode: open_clip's: to the ``shortest`` edge and crop, ``longest`` and pad, or ``squash`` to the shape.
        interpolation: open_clip's.
        fill_color: what ``longest`` pads with, 0 to 255.
        exact: never take the fast way.
    """

    size: tuple[int, int]
    resize_mode: ResizeMode = "shortest"
    interpolation: Interpolation = "bicubic"
    fill_color: int = 0
    exact: bool = False

    def __call__(self, data: bytes, max_pixels: int) -> NDArray[np.uint8]:
        """As `read`, without saying whether the image was completed."""
        return self.read(data, max_pixels)[0]

    def read(self, data: bytes, max_pixels: int) -> tuple[NDArray[np.uint8], bool]:
        """Decode and transform one image file to uint8 ``[3, H, W]``, RGB; and whether it lacked its last rows.

        Raises:
            TaskError: ``undecodable``, or ``too_large`` beyond `max_pixels`.
        """
        data, image, repaired = opened(data, max_pixels)
        height, width = self.resized(image.height, image.width)
        check_pixels(width, height, max_pixels)  # a strip of 60,000 by 1 grows beyond all bounds
        with refusing_bad_data():
            pixels: torch.Tensor | None = None
            if self._is_fast(image, height, width):
                pixels, completed = jpeg_pixels(image, data)
                repaired |= completed
            if pixels is None:
                image, completed = loaded(image, data, max_pixels)
                repaired |= completed
                image = image if self.exact else eight_bit(image)
            if self._is_fast(image, height, width):
                return self._fast(image, pixels, (height, width)), repaired
            return self._exact(image, (height, width)), repaired

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """The height and width to which an image is resized, before it is cropped or padded."""
        wanted_height, wanted_width = self.size
        if self.resize_mode == "squash":
            return self.size
        if self.resize_mode == "shortest" and wanted_height == wanted_width:  # torchvision's Resize
            long = int(wanted_height * max(height, width) / min(height, width))
            return (long, wanted_width) if width <= height else (wanted_height, long)
        ratios = height / wanted_height, width / wanted_width  # open_clip's ResizeKeepRatio
        ratio = max(ratios) if self.resize_mode == "longest" else min(ratios)
        return max(1, round(height / ratio)), max(1, round(width / ratio))

    def _is_fast(self, image: Image.Image, height: int, width: int) -> bool:
        shrinks = min(image.height / height, image.width / width)
        return not self.exact and image.mode in _PLAIN_MODES and shrinks >= SAFE_SCALE

    def _fast(self, image: Image.Image, pixels: torch.Tensor | None, resized: tuple[int, int]) -> NDArray[np.uint8]:
        # torch's resize, unlike Pillow's, uses the processor's vector instructions. All of this releases the GIL.
        if pixels is None:
            pixels = torch.from_numpy(np.atleast_3d(np.array(image))).permute(2, 0, 1)
        (to_y, from_y), (to_x, from_x) = map(_overlap, self.size, resized)
        # What is cropped away below and to the right is not computed: a scale may come with any output size.
        scales = resized[0] / image.height, resized[1] / image.width
        needed = [from_y.stop or resized[0], from_x.stop or resized[1]]
        small = _RESIZE[self._mode](pixels[None], needed, False, *scales)[0].numpy()
        canvas = np.full((3, *self.size), self.fill_color, np.uint8)
        canvas[:, to_y, to_x] = small[:, from_y, from_x]
        return canvas

    def _exact(self, image: Image.Image, resized: tuple[int, int]) -> NDArray[np.uint8]:
        # Step by step what the original does, its oddities in other modes than RGB included.
        height, width = resized
        image = self._cropped(image.resize((width, height), Image.Resampling[self._mode.upper()]))
        image.info.pop("transparency", None)  # it has no part in RGB, and Pillow would warn
        return np.ascontiguousarray(np.asarray(image.convert("RGB")).transpose(2, 0, 1))

    def _cropped(self, image: Image.Image) -> Image.Image:
        height, width = self.size
        high, wide = max(0, height - image.height), max(0, width - image.width)
        if high or wide:
            borders = [wide // 2, high // 2, (wide + 1) // 2, (high + 1) // 2]
            padded: Image.Image = functional.pad(image, borders, fill=self.fill_color)
            image = padded
        top, left = (round((has - wants) / 2) for has, wants in ((image.height, height), (image.width, width)))
        return image.crop((left, top, left + width, top + height))

    @property
    def _mode(self) -> Interpolation:
        # For a shape that is not square, the original forgets to pass the interpolation on.
        forgets = self.resize_mode == "shortest" and self.size[0] != self.size[1]
        return "bicubic" if forgets else self.interpolation


def _overlap(wanted: int, has: int) -> tuple[slice, slice]:
    """Where in the target, and where from, when a centred crop or padding makes one length of another."""
    if has < wanted:
        start = (wanted - has) // 2
        return slice(start, start + has), slice(None)
    start = round((has - wanted) / 2)
    return slice(None), slice(start, start + wanted)
