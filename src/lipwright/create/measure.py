"""What a trained avatar is worth, measured on finished frames with the face mesh: its own sound, another's, silence."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lipwright import patch
from lipwright.audio.decode import SoundReader
from lipwright.avatar import Avatar, builtin_sound
from lipwright.contract import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, FloatArray, UInt8Array
from lipwright.create.report import Figures
from lipwright.create.step import Step
from lipwright.face import face_width, lip_gap, lip_points, meshes
from lipwright.picture import BgrPicture
from lipwright.quality import (
    Phone,
    closed_in_all,
    closures_kept,
    landmark_distance,
    lip_gap_correlation,
    mean_picture,
    rest,
    without_drift,
    worst_seam,
)
from lipwright.render import Networks, Renderer
from lipwright.render.template import Walk
from lipwright.training.data import Frames
from lipwright.training.held_out import HeldOut, draw_by
from lipwright.training.pack import Pack
from lipwright.trial import pictures

#: Frames of somebody else's speech, on each of two stretches of the template, and frames of silence.
FOREIGN_FRAMES = 200
SILENT_FRAMES = 50


def measure(
    avatar: Avatar,
    networks: Networks,
    pack: Pack,
    frames: Frames,
    plain: Path | None = None,
    progress: Callable[[Step], None] = lambda _: None,
) -> dict[str, Figures]:
    """All figures of an avatar that can speak.

    Args:
        avatar: with a generator and landmarks.
        networks: its two networks.
        pack: what it was trained on.
        frames: [n] held-out frames of it: those that are looked at.
        plain: weights of a generator trained plainly on as many pictures; None: there is none to compare with.
        progress: called now and then.

    Returns:
        ``own sound``: the held-out frames against the true ones; ``nearest pose`` and ``mean picture`` the same for
        what costs nothing, ``plain L1`` for ``plain``, and ``truth`` for the true pictures themselves, which tells how
        well the lips can be read; ``other sound``: the built-in sentences over two stretches of the template;
        ``silence``.
    """
    held = HeldOut(pack, frames)
    asked = frames.tolist()
    drawn = _drawn(networks, held, progress)
    mean = mean_picture(pack.rois[k] for k in pack.training_frames())
    cases = {
        "own sound": drawn,
        "nearest pose": held.nearest,
        "mean picture": np.broadcast_to(mean, drawn.shape),
    }
    if plain is not None:
        progress(Step("drawing as plain training would", 0, None))
        cases["plain L1"] = draw_by(plain, held)
    cases["truth"] = held.truth
    found = {}
    for number, (name, rois) in enumerate(cases.items()):
        progress(Step("measuring", number, len(cases)))
        found[name] = held.score(rois).figures() | _lips(avatar, asked, rois)
    found["own sound"] |= _seams(avatar, asked, drawn, progress)
    found["other sound"] = _foreign(avatar, networks, progress)
    found["silence"] = _silence(avatar, networks)
    return found


def _drawn(networks: Networks, held: HeldOut, progress: Callable[[Step], None]) -> UInt8Array:
    """[n, 320, 320, 3] what the exported generator makes of the held-out time."""
    rois = np.empty_like(held.truth)
    for k, window in enumerate(held.windows()):
        image = patch.to_input(held.nearest[k], held.truth[k])
        rois[k] = patch.from_output(networks.draw(image[None], window[None])[0])
        progress(Step("drawing what it has never seen", k, len(held.frames)))
    return rois


def _lips(avatar: Avatar, frames: list[int], rois: UInt8Array) -> Figures:
    """What the lips do on the finished frames, against the film's own landmarks."""
    assert avatar.landmarks is not None
    mesh = meshes(_pasted(avatar, frames, rois))
    truth = avatar.landmarks[frames]
    gaps, true = lip_gap(mesh), lip_gap(truth)
    follows = lip_gap_correlation(gaps, true)
    closed = closures_kept(gaps, true)
    return {
        "lip_gap_r": _number(follows.r),
        "lip_gap_r_low": _number(follows.low),
        "lip_gap_r_high": _number(follows.high),
        "lip_gap_lag": float(follows.lag),
        "lip_gap_amplitude": _number(follows.amplitude),
        "lmd": _number(landmark_distance(lip_points(mesh), lip_points(truth), face_width(truth))),
        "closed_recall": _number(closed.recall),
        "closed_precision": _number(closed.precision),
    }


def _pasted(avatar: Avatar, frames: list[int], rois: UInt8Array) -> Iterable[UInt8Array]:
    """Whole frames with these ROIs in them."""
    how = avatar.manifest.resize
    for k, picture, roi in zip(frames, pictures(avatar, frames), rois, strict=True):
        yield patch.paste(picture, avatar.rect(k), patch.crop(picture, avatar.rect(k), how), roi, how)


def _seams(avatar: Avatar, frames: list[int], rois: UInt8Array, progress: Callable[[Step], None]) -> Figures:
    """The step in colour that redrawing adds at the border, with and without blending."""
    how = avatar.manifest.resize
    soft: list[float] = []
    exact: list[float] = []
    for k, picture, roi in zip(frames, pictures(avatar, frames), rois, strict=True):
        progress(Step("looking for a border", len(soft), len(frames)))
        rect = avatar.rect(k)
        crop = patch.crop(picture, rect, how)
        whole = BgrPicture(picture)
        blended = whole.changed(rect, patch.change(whole.piece(rect), crop, roi, how)).bgr
        exact.append(worst_seam(patch.paste(picture, rect, crop, roi, how), picture, rect).excess)
        soft.append(worst_seam(blended, picture, rect).excess)
    return {"seam_soft": _number(float(np.nanmean(soft))), "seam_exact": _number(float(np.nanmean(exact)))}


def _foreign(avatar: Avatar, networks: Networks, progress: Callable[[Step], None]) -> Figures:
    """One strange sound over two stretches: the lips should do the same on both, and not what the template's did.

    How a face slowly changes its posture is taken out: it stays the film's, as it should. On p, b and m the lips should
    close, which a synthesizer read and knows the time of.
    """
    assert avatar.landmarks is not None
    progress(Step("letting it say something else", 0, None))
    with SoundReader(builtin_sound()) as reader:
        sound = np.concatenate(list(reader))[: FOREIGN_FRAMES * reader.rate // FPS]
        rate, channels = reader.rate, reader.channels
    shown = _showable(avatar)
    starts = [shown[0], shown[len(shown) // 2]]
    spoken = [_spoken(avatar, networks, sound, rate, channels, start) for start in starts]
    closed = closed_in_all(spoken, said_in(builtin_sound()))
    films = [without_drift(gaps) for gaps in spoken]
    walks = [_shown(avatar, start, len(film)) for start, film in zip(starts, films, strict=True)]
    own = [without_drift(lip_gap(avatar.landmarks[frames])) for frames in walks]
    template = [lip_gap_correlation(film, lips).r for film, lips in zip(films, own, strict=True)]
    return {
        "same_lips_r": _number(lip_gap_correlation(films[0], films[1]).r),
        "template_lips_r": _number(max(template, key=lambda r: -1.0 if np.isnan(r) else abs(r))),
        "closed_recall": _number(closed.recall),
        "closed_precision": _number(closed.precision),
    }


def said_in(sound: Path) -> list[Phone]:
    """What is said when in a sound beside which that is written down, as `tools.make_demo_sound` does."""
    return [Phone(*each) for each in json.loads(sound.with_suffix(".json").read_text(encoding="utf-8"))]


def _showable(avatar: Avatar) -> list[int]:
    """Template frames with a face that a film can begin with: those between two near cuts lie in no segment."""
    inside = avatar.segments or [(0, avatar.frame_count)]
    return [k for first, stop in inside for k in range(first, stop) if avatar.rect(k).usable]


def _shown(avatar: Avatar, start: int, count: int) -> list[int]:
    """Template frames that a film from ``start`` on shows."""
    walk = Walk.of(avatar, start)
    return [walk(index) for index in range(count)]


def _spoken(
    avatar: Avatar, networks: Networks, sound: FloatArray, rate: int, channels: int, start: int
) -> npt.NDArray[np.float64]:
    """Lip gaps [n] of the avatar speaking ``sound`` from template frame ``start`` on; NaN where nothing is redrawn."""
    with (
        Renderer(avatar, rate, channels, networks=networks, start=start) as renderer,
        closing(renderer.stream(iter([sound]))) as frames,
    ):
        gaps = lip_gap(meshes(frame.image for frame in islice(frames, FOREIGN_FRAMES)))
    drawn = [avatar.rect(k).usable for k in _shown(avatar, start, len(gaps))]
    return np.where(drawn, gaps, np.nan)


def _silence(avatar: Avatar, networks: Networks) -> Figures:
    """Lips while nothing is said, over the template's own speech."""
    sound = np.zeros((SILENT_FRAMES * SAMPLES_PER_FRAME, 1), np.float32)
    gaps = _spoken(avatar, networks, sound, SAMPLE_RATE, 1, avatar.manifest.start_frame)
    quiet = rest(gaps, np.ones(len(gaps), bool))
    return {"gap_99": _number(quiet.gap_99), "step_99": _number(quiet.step_99), "jitter": _number(quiet.jitter)}


def _number(value: float) -> float | None:
    """For JSON: NaN becomes None."""
    return None if not np.isfinite(value) else round(float(value), 4)
