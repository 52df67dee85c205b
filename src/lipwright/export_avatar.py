"""The walk that makes an avatar usable without torch: its weights become ONNX, proven on its own pictures and sound."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lipwright import patch
from lipwright.audio.decode import hear
from lipwright.audio.mel import mel_slices
from lipwright.audio.window import feature_windows
from lipwright.avatar import ENCODER, FAST_GENERATOR, GENERATOR, Avatar, ModelRecord, Parity, builtin_sound
from lipwright.contract import Alignment, FloatArray
from lipwright.errors import AvatarError, ContractError
from lipwright.export import ParityRecord, Store, export_audio_encoder, export_generator, load_generator
from lipwright.runtimes import open_runtime
from lipwright.video import VideoReader

if TYPE_CHECKING:
    from lipwright.models.generator import Width

#: Pictures and windows that the two sides of the parity check draw.
COMPARED = 8
#: Width of the generator that slow machines draw with.
_FAST: Width = "mobile"


def export_avatar(
    avatar: Avatar, checkpoint: Path | None = None, store: Store = "f16", encoder_store: Store | None = None
) -> Avatar:
    """Write an avatar's torch weights into it as ONNX, with the outcome of the parity check in its manifest.

    The audio encoder is exported too where the avatar has it as torch weights only.

    Args:
        avatar: the package; it is replaced when everything was found right.
        checkpoint: ``.pth`` of the generator; None: the one in the package.
        store: how the files keep the weights.
        encoder_store: the same for the audio encoder; None: as ``store``.

    Returns:
        The package as written.

    Raises:
        AvatarError: there are no weights, no usable frame, or nothing that says what the generator hears.
        LipwrightError: torch and ONNX differ too much, or torch is not installed.
    """
    weights, origin = _weights(avatar, checkpoint)
    records, contents = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        encoder = avatar.encoder
        mels = _demo_mels(avatar.manifest.encoder.alignment.to_contract())
        encoder_weights = avatar.manifest.models.audio_encoder_weights
        if encoder is None and encoder_weights is not None:
            encoder = contents[ENCODER] = Path(folder) / "encoder.onnx"
            parity = export_audio_encoder(
                avatar.path / encoder_weights.file, encoder, _spread(mels), encoder_store or store
            )
            records["audio_encoder"] = _record(ENCODER, encoder_weights, parity)
        contents[GENERATOR] = Path(folder) / "generator.onnx"
        heard = _spread(_windows(avatar, encoder, mels))
        generator = load_generator(weights)
        parity = export_generator(generator, contents[GENERATOR], *_asked(avatar, heard), store)
        records["generator"] = _record(GENERATOR, origin, parity, generator.width)
        return _saved(avatar, records, contents)


def export_fast(avatar: Avatar, weights: Path, store: Store = "f16", origin: ModelRecord | None = None) -> Avatar:
    """Write a second, faster generator into an avatar, proven like the first: the one of ``Avatar.at("fast")``.

    Args:
        avatar: the package; it is replaced when everything was found right.
        weights: ``.pth`` of a generator of mobile width, trained on the avatar's film with the avatar's audio encoder;
            the package does not keep them.
        store: how the file keeps the weights.
        origin: whose licence and origin it has; None: unknown, and the name of the file.

    Returns:
        The package as written.

    Raises:
        AvatarError: no usable frame, or nothing that says what the generator hears.
        ContractError: the weights are not those of a generator of mobile width.
        LipwrightError: torch and ONNX differ too much, or torch is not installed.
    """
    generator = load_generator(weights)
    if generator.width != _FAST:
        raise ContractError(
            f"{weights} is a generator of {generator.width} width and no faster than the avatar's own: "
            f"train one with --width {_FAST}"
        )
    heard = _spread(_windows(avatar, avatar.encoder, _demo_mels(avatar.manifest.encoder.alignment.to_contract())))
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "generator.onnx"
        parity = export_generator(generator, model, *_asked(avatar, heard), store)
        record = _record(FAST_GENERATOR, origin or _unknown(weights), parity, generator.width)
        return _saved(avatar, {"generator_fast": record}, {FAST_GENERATOR: model})


def _saved(avatar: Avatar, records: dict[str, ModelRecord], contents: dict[str, Path]) -> Avatar:
    """The package with these networks."""
    models = avatar.manifest.models.model_copy(update=records)
    return avatar.save(manifest=avatar.manifest.changed(models=models), contents=contents)


def _record(file: str, weights: ModelRecord, parity: ParityRecord, width: Width | None = None) -> ModelRecord:
    """The manifest's line about an exported network: licence and origin are those of its weights."""
    proof = Parity(**asdict(parity))
    return ModelRecord(file=file, licence=weights.licence, origin=weights.origin, width=width, parity=proof)


def _weights(avatar: Avatar, checkpoint: Path | None) -> tuple[Path, ModelRecord]:
    """The generator's weights, and what is known of them."""
    if checkpoint is not None:
        return checkpoint, _unknown(checkpoint)
    record = avatar.manifest.models.generator_weights
    if record is None:
        raise AvatarError(f"{avatar.path} holds no torch weights of a generator: name them with --checkpoint FILE.pth")
    return avatar.path / record.file, record


def _unknown(weights: Path) -> ModelRecord:
    """What is known of weights that somebody hands over: the name of their file."""
    return ModelRecord(file=weights.name, licence="unknown", origin=f"from {weights.name}")


def _spread(rows: FloatArray) -> FloatArray:
    """At most ``COMPARED`` rows, evenly spread."""
    return rows[_evenly(len(rows))]


def _evenly(count: int) -> npt.NDArray[np.int64]:
    return np.unique(np.linspace(0, count - 1, COMPARED).astype(np.int64))


def sample_mels(alignment: Alignment) -> FloatArray:
    """[n, 1, 80, 16] of the built-in sentences: what an encoder with this alignment hears, to compare two of them."""
    return _spread(_demo_mels(alignment))


def _demo_mels(alignment: Alignment) -> FloatArray:
    """[N, 1, 80, 16] of all built-in sentences."""
    return mel_slices(hear(builtin_sound()), alignment)


def _windows(avatar: Avatar, encoder: Path | None, mels: FloatArray) -> FloatArray:
    """[N, 32, 16, 16] of the template's own sound; without its features, of the built-in sentences."""
    features = avatar.features
    if features is None:
        if encoder is None:
            raise AvatarError(
                f"{avatar.path} has neither features nor an audio encoder to compare torch and ONNX with: "
                "import it again with --audio-encoder FILE"
            )
        features = open_runtime(encoder, "encoder").run(mels)
    return feature_windows(features, avatar.manifest.window.padding)


def _asked(avatar: Avatar, windows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """What both sides draw: a picture for each of the ``windows`` [n, 32, 16, 16], and these."""
    return _images(avatar, len(windows)), windows


def _images(avatar: Avatar, count: int) -> FloatArray:
    """[count, 6, 320, 320] of frames spread over the template."""
    usable = np.flatnonzero(avatar.rects[:, 0] >= 0)
    if not len(usable):
        raise AvatarError(f"no frame of {avatar.path} has a usable face: there is nothing to draw")
    chosen = np.resize(usable[_evenly(len(usable))], count)
    with VideoReader(avatar.template) as film:
        return np.stack([_image(avatar, film, int(k)) for k in chosen])


def _image(avatar: Avatar, film: VideoReader, k: int) -> FloatArray:
    picture = next(film.read(k, k + 1))
    roi = patch.roi(patch.crop(picture, avatar.rect(k), avatar.manifest.resize))
    return patch.to_input(roi, roi)
