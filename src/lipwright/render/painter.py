"""The picture side of a frame, which knows nothing of time or sound: a template frame gets a new mouth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lipwright import patch
from lipwright.avatar import Avatar
from lipwright.closing import Closing
from lipwright.contract import Border, FloatArray, Rect, UInt8Array
from lipwright.errors import AvatarError, LipwrightError
from lipwright.picture import BgrPicture, Picture
from lipwright.render.networks import Networks
from lipwright.render.template import CACHE_BYTES, Template


@dataclass(frozen=True, slots=True)
class Mouth:
    """The part of a picture that is redrawn."""

    rect: Rect
    """Where it lies in the picture."""
    piece: UInt8Array
    """[h, w, 3] BGR, the rect as it is in the picture."""
    crop: UInt8Array
    """[328, 328, 3] BGR, the same in the network's world."""


@dataclass(frozen=True, slots=True)
class Still:
    """A template frame, ready to be drawn: all that does not depend on the sound."""

    index: int
    """Number of the template frame."""
    picture: Picture
    """The whole of it."""
    mouth: Mouth | None
    """None where the frame has no usable face: it is shown as it is."""


class Painter(Closing):
    """Draws new mouths into the template frames of an avatar.

    Three steps, so that they can work side by side or for several listeners at once: ``still`` (one thread at a time),
    ``draw`` (as many threads as the generator has lanes, of all that share ``networks``), ``finish`` (any thread).

    Args:
        avatar: whose film and rects.
        networks: of the avatar, loaded.
        border: ``soft`` blends the border of the redrawn region into the frame; ``exact`` pastes it as the family does.
        cache_bytes: memory for decoded template frames.

    Raises:
        AvatarError: the avatar's film is not the one its manifest describes.
        MediaError: the film cannot be read.
    """

    def __init__(
        self, avatar: Avatar, networks: Networks, border: Border = "soft", cache_bytes: int = CACHE_BYTES
    ) -> None:
        self._avatar = avatar
        self._networks = networks
        self._border = border
        self._resize = avatar.manifest.resize
        self._template = _open_template(avatar, cache_bytes)
        self.width, self.height = self._template.width, self._template.height

    def still(self, k: int) -> Still:
        """Template frame ``k``, cut.

        Raises:
            MediaError: the frame cannot be decoded.
        """
        return self.cut(k, self.picture(k))

    def picture(self, k: int) -> Picture:
        """Template frame ``k`` as it was filmed.

        Raises:
            MediaError: the frame cannot be decoded.
        """
        return self._template.frame(k)

    def cut(self, k: int, picture: Picture) -> Still:
        """The crop of template frame ``k`` out of its picture; no mouth where there is none to redraw."""
        rect = self._avatar.rect(k)
        if not rect.usable:
            return Still(k, picture, None)
        piece = picture.piece(rect)
        return Still(k, picture, Mouth(rect, piece, patch.crop_of(piece, self._resize)))

    def draw(self, stills: Sequence[Still], windows: FloatArray, batch: int = 0) -> list[UInt8Array | None]:
        """The generator's answers to stills and their windows [B, 32, 16, 16], in one call.

        Args:
            stills: of this painter, or of others that share its networks.
            windows: what is heard around each.
            batch: the call is filled up to so many frames by repeating the last: the bits of an answer depend on the
                size of the call.

        Returns:
            For each still the new ROI [320, 320, 3] BGR; None where there is nothing to redraw.

        Raises:
            LipwrightError: an answer holds values that are not numbers.
        """
        asked = [i for i, still in enumerate(stills) if still.mouth]
        answers: list[UInt8Array | None] = [None] * len(stills)
        if not asked:
            return answers
        filled = [*asked, *asked[-1:] * (batch - len(asked))]
        rois = np.stack([patch.roi(mouth.crop) for i in filled if (mouth := stills[i].mouth)])
        drawn = self._networks.redraw(rois, windows[filled])
        for i, roi, finite in zip(asked, drawn.rois, drawn.finite, strict=False):
            if not finite:
                raise self._not_numbers(stills[i])
            answers[i] = roi
        return answers

    def finish(self, still: Still, answer: UInt8Array | None) -> Picture:
        """The template frame with the new mouth.

        ``answer`` [320, 320, 3] BGR is what ``draw`` gave for the still.
        """
        mouth = still.mouth
        if mouth is None or answer is None:
            return still.picture
        if self._border == "exact":
            return BgrPicture(patch.paste(still.picture.bgr, mouth.rect, mouth.crop, answer, self._resize))
        return still.picture.changed(mouth.rect, patch.change(mouth.piece, mouth.crop, answer, self._resize))

    def close(self) -> None:
        self._template.close()

    def _not_numbers(self, still: Still) -> LipwrightError:
        return LipwrightError(
            f"template frame {still.index}: the generator's picture holds values that are not numbers "
            f"({self._networks.generator.detail}): try precision f32 or another runtime; if they stay, "
            f"the model in {self._avatar.path} is damaged"
        )


def _open_template(avatar: Avatar, cache_bytes: int) -> Template:
    """The avatar's film, if it is the one the manifest describes."""
    template, sizes = Template(avatar.template, cache_bytes, avatar.segments), avatar.manifest.sizes
    found, described = (template.width, template.height), (sizes.width, sizes.height)
    if found != described or len(template) < avatar.frame_count:
        template.close()
        raise AvatarError(
            f"{avatar.template} has {len(template)} frames of {found[0]} x {found[1]}, the avatar is made for "
            f"{avatar.frame_count} of {described[0]} x {described[1]}: put the right film back"
        )
    return template
