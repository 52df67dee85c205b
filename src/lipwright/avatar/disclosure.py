"""What a film of an avatar says about itself: signed credentials, and a mark where nobody is known to have agreed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import cv2
import numpy as np

from lipwright.avatar.consent import Standing, consent_standing
from lipwright.avatar.package import Avatar
from lipwright.contract import FloatArray, Rect, UInt8Array
from lipwright.credentials import Claims, Identity, seal
from lipwright.credentials.library import library
from lipwright.picture import Picture

MARK_TEXT = "synthetic - no consent on file"
#: Height of the mark's capitals and its distance from the lower left corner, as shares of the picture's shorter side.
MARK_HEIGHT, MARK_MARGIN = 1 / 45, 1 / 36
#: No smaller than can be read, in pixels.
MARK_MIN_HEIGHT = 9
#: Share of the text's white, and of the shade around it that keeps it readable on white.
MARK_OPACITY, MARK_SHADE = 0.85, 0.45


@dataclass(frozen=True)
class Disclosure:
    """What is due for the films of one avatar."""

    standing: Standing
    """What is known of the consent."""
    sentence: str
    """The same in the words that the credentials use."""
    signer: str | None
    """Organisation and common name of who signs; None: no credentials are wanted."""
    seal: Callable[[Path], None] | None
    """Signs a finished film or folder of pictures; None likewise."""
    mark: Mark | None
    """None: the pictures may go out as they are."""

    @classmethod
    def of(cls, avatar: Avatar, identity: Identity | None, *, i_have_consent: bool = False) -> Self:
        """Judge the consent, and take the sha256 of the files that are about to make the film.

        Args:
            avatar: who is to speak.
            identity: who signs; None: nobody does.
            i_have_consent: whoever makes the film answers for the consent: no mark, and the credentials say so.

        Raises:
            CredentialsError: films cannot be signed here: the C2PA library is missing.
        """
        standing = consent_standing(avatar.manifest)
        sentence = standing.sentence
        if not standing.suffices and i_have_consent:
            sentence += "; who made this film says that the person shown agreed"
        sizes = avatar.manifest.sizes
        mark = None if standing.suffices or i_have_consent else Mark(sizes.width, sizes.height)
        if identity is None:
            return cls(standing, sentence, None, None, mark)
        library()  # a film must not be lost at its end for want of it
        sealing = partial(seal, claims=_claims(avatar, sentence), identity=identity)
        return cls(standing, sentence, identity.name, sealing, mark)

    def shown(self, picture: Picture) -> Picture:
        """The picture as it may be shown."""
        return picture if self.mark is None else self.mark.draw(picture)


def _claims(avatar: Avatar, sentence: str) -> Claims:
    files = {"generator": avatar.generator, "audio_encoder": avatar.encoder, "template": avatar.template}
    return Claims.of(avatar.name, {what: path for what, path in files.items() if path}, sentence)


class Mark:
    """One line in the lower left corner: synthetic, and nobody is known to have agreed.

    Args:
        width: of the pictures, in pixels.
        height: of the pictures, in pixels.
    """

    rect: Rect
    """No pixel outside it changes."""

    def __init__(self, width: int, height: int) -> None:
        side = min(width, height)
        font, thickness = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(side / 540))
        capitals = max(MARK_MIN_HEIGHT, round(side * MARK_HEIGHT))
        margin = max(MARK_MIN_HEIGHT, round(side * MARK_MARGIN))
        scale = cv2.getFontScaleFromHeight(font, capitals, thickness)
        (length, _), _ = cv2.getTextSize(MARK_TEXT, font, scale, thickness)
        if length > width - 2 * margin:
            scale, length = scale * (width - 2 * margin) / length, width - 2 * margin
        text = np.zeros((height, width), np.uint8)
        cv2.putText(text, MARK_TEXT, (margin, height - margin), font, scale, 255, thickness, cv2.LINE_AA)
        # Whole blocks of 2 x 2 pixels, for which YUV has one colour.
        top, right = (
            max(0, height - margin - 4 * capitals) // 2 * 2,
            min(width, length + margin + 3 * capitals) // 2 * 2,
        )
        self.rect = Rect(0, top, right, height)
        inside = (slice(top, height), slice(0, right), None)
        self._white = np.float32(MARK_OPACITY / 255) * text[inside]
        self._shade = 1 - np.float32(MARK_SHADE) * _blurred(text, capitals)[inside]

    def draw(self, picture: Picture) -> Picture:
        """The picture with the mark."""
        before = picture.piece(self.rect).astype(np.float32)
        shaded = before * self._shade
        return picture.changed(self.rect, shaded + self._white * (255 - shaded) - before)


def _blurred(text: UInt8Array, size: int) -> FloatArray:
    """[H, W], 0..1: a soft shade that reaches about ``size`` pixels around the text [H, W]."""
    wide = cv2.dilate(text, np.ones((size, size), np.uint8))
    soft = cv2.GaussianBlur(wide, (0, 0), size / 2)
    return np.asarray(soft, np.float32) / np.float32(255)
