"""An avatar on the disk: ``NAME.avatar/``, everything needed to make one person speak."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from lipwright.avatar.checks import problems
from lipwright.avatar.manifest import Manifest, ModelRecord
from lipwright.avatar.storage import MANIFEST, SUFFIX, Content, existing, fill, load_array, named, new_folder
from lipwright.contract import FEATURE_DIM, NO_RECT, BuiltIn, FloatArray, Quality, Rect
from lipwright.digest import sha256
from lipwright.errors import AvatarError

TEMPLATE = "full_body_video.mp4"
RECTS = "roi_bounds.npy"
FEATURES = "aud_ave.npy"
LANDMARKS = "landmarks.npy"
GENERATOR = "checkpoint/model_best.onnx"
FAST_GENERATOR = "checkpoint/model_fast.onnx"
WEIGHTS = "checkpoint/best_trainloss.pth"
ENCODER = "audio_encoder.onnx"
ENCODER_WEIGHTS = "checkpoint/audio_encoder.pth"

ModelKey = Literal["generator", "generator_fast", "audio_encoder", "generator_weights", "audio_encoder_weights"]
#: Where each network of the manifest's ``models`` lies.
MODEL_FILES: dict[ModelKey, str] = {
    "generator": GENERATOR,
    "generator_fast": FAST_GENERATOR,
    "audio_encoder": ENCODER,
    "generator_weights": WEIGHTS,
    "audio_encoder_weights": ENCODER_WEIGHTS,
}

RectArray = npt.NDArray[np.int32]


_DATA = Path(__file__).parent.parent / "data"

#: Who comes with lipwright, and what each says in the demo, in a voice of his or her own.
_BUILT_IN: dict[BuiltIn, str] = {"presenter": "demo.flac", "mira": "demo_mira.flac"}


def builtin_avatar(name: BuiltIn = "presenter") -> Path:
    """The folder of an avatar that comes with lipwright; its film and networks are ours, and it shows nobody."""
    return _DATA / f"{name}{SUFFIX}"


def builtin_sound(name: BuiltIn = "presenter") -> Path:
    """What a built-in avatar says in the demo: FLAC, 16 kHz, mono."""
    return _DATA / _BUILT_IN[name]


def find_avatar(name: str | Path) -> Path:
    """The folder of an avatar by path, by name for ``NAME.avatar`` in the current folder, or by name of a built-in one.

    Raises:
        AvatarError: there is none; the message lists the avatars that are in the current folder, and the built-in ones.
    """
    path = Path(name)
    candidates = [path, path.with_name(path.name + SUFFIX)] if path.name else [path]
    candidates += [builtin_avatar(known) for known in _BUILT_IN if known == str(name)]
    for candidate in candidates:
        if (candidate / MANIFEST).is_file():
            return candidate
    if path.is_dir():
        raise AvatarError(
            f"{path} has no {MANIFEST}: it is not an avatar; for a package made elsewhere: "
            f"lipwright import {path} -o NAME{SUFFIX}"
        )
    here = sorted(found.name for found in Path().glob(f"*{SUFFIX}"))
    known = f"in this folder: {', '.join(here)}" if here else "there is none in this folder"
    raise AvatarError(f"no avatar {str(name)!r}; {known}; built in: {', '.join(_BUILT_IN)}")


@dataclass(frozen=True)
class Avatar:
    """A package that has been opened: complete, and consistent with its manifest.

    The large arrays are read when first asked for; ``verify`` also looks into the files.
    """

    path: Path
    """The folder."""
    manifest: Manifest
    """``avatar.json``."""
    quality: Quality = "full"
    """Which of its generators draws; ``at`` chooses another."""

    @classmethod
    def open(cls, name: str | Path) -> Self:
        """Open by path, by the name of a ``NAME.avatar`` in the current folder, or by that of a built-in one.

        Raises:
            AvatarError: not found, incomplete, a manifest that is wrong, rects that do not fit the film, or an audio
                encoder that the generator was not trained with. The message names what is wrong.
        """
        path = named(find_avatar(name))
        try:
            text = (path / MANIFEST).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise AvatarError(f"{path / MANIFEST} cannot be read: {error}") from error
        avatar = cls(path, Manifest.parse(text, str(path / MANIFEST)))
        avatar._check_files()
        avatar._check_encoder()
        check_rects(avatar.rects, avatar)
        return avatar

    @classmethod
    def create(cls, out: Path, manifest: Manifest, contents: Mapping[str, Content], *, replace: bool = False) -> Self:
        """Write a new package: whole under its final name, or not at all.

        Args:
            out: ``NAME.avatar``, beside which a temporary folder is made.
            manifest: its ``files`` are filled in here; an unbound encoder is bound to the one in ``contents``.
            contents: file or array by path inside the package; ``TEMPLATE`` and ``RECTS`` must be among them.
            replace: whether an avatar of this name may be replaced.

        Raises:
            AvatarError: the disk refuses, or the package would not open.
        """
        with new_folder(out, replace=replace) as draft:
            files = fill(draft, contents, own=out)
            complete = _bound(manifest.changed(files=files, made_with=f"lipwright {version('lipwright')}"))
            (draft / MANIFEST).write_text(complete.to_json(), encoding="utf-8")
            try:
                cls.open(draft)
            except AvatarError as error:
                raise AvatarError(str(error).replace(str(draft), str(out))) from error
        return cls.open(out)

    def save(
        self,
        out: Path | None = None,
        *,
        manifest: Manifest | None = None,
        contents: Mapping[str, Content | None] | None = None,
        replace: bool = False,
    ) -> Self:
        """Write this package again, over itself or to ``out``, with another manifest or other files.

        Args:
            out: where to; None: over itself (the old one goes when the new one is whole).
            manifest: instead of the present one.
            contents: files to add or replace; None as value removes one.
            replace: whether an avatar at ``out`` may be replaced.

        Returns:
            The package as written.

        Raises:
            AvatarError: as ``create``.
        """
        merged: dict[str, Content | None] = {name: self.path / name for name in self.manifest.files}
        merged.update(contents or {})
        kept = {name: content for name, content in merged.items() if content is not None}
        target = out or self.path
        return self.create(target, manifest or self.manifest, kept, replace=replace or target == self.path)

    def put_model(self, key: ModelKey, file: Path, **record: Any) -> Self:
        """Save this package over itself with a network added or replaced.

        Args:
            key: which network.
            file: ONNX or torch weights; copied to the place that ``MODEL_FILES`` names.
            record: the fields of ``ModelRecord`` but ``file``: at least ``licence`` and ``origin``.

        Raises:
            AvatarError: as ``create``; an audio encoder other than the bound one is refused.
        """
        name = MODEL_FILES[key]
        models = self.manifest.models.model_copy(update={key: ModelRecord(file=name, **record)})
        return self.save(manifest=self.manifest.changed(models=models), contents={name: file})

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def frame_count(self) -> int:
        """Frames of the template."""
        return self.manifest.sizes.frames

    @property
    def segments(self) -> list[tuple[int, int]]:
        """First frame and stop of the template's stretches without a cut; none: the whole template is one."""
        return [(segment.start, segment.stop) for segment in self.manifest.segments]

    @property
    def template(self) -> Path:
        """The film that gets a new mouth, 25 fps."""
        return existing(self.path, TEMPLATE)

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """What it can draw in; empty without a generator."""
        return tuple(quality for quality in get_args(Quality) if self._drawing(quality) is not None)

    def at(self, quality: Quality) -> Self:
        """The same avatar, drawn by its generator of this quality; by its only one, if that is of mobile width.

        Raises:
            AvatarError: it has no fast generator.
        """
        if quality == "fast" and self._drawing(quality) is None:
            only = self.manifest.models.generator
            if only is not None and only.width == "mobile":
                return replace(self, quality="full")
            raise AvatarError(
                f"{self.path} has no fast generator: train one of mobile width and add it with "
                f"`lipwright export {self.path} --fast WEIGHTS.pth`, or draw with --quality full"
            )
        return replace(self, quality=quality)

    @property
    def drawing(self) -> ModelRecord | None:
        """What the manifest says of ``generator``."""
        return self._drawing(self.quality)

    def _drawing(self, quality: Quality) -> ModelRecord | None:
        models = self.manifest.models
        return models.generator if quality == "full" else models.generator_fast

    @property
    def generator(self) -> Path | None:
        """UNet-328 as ONNX, the one of ``quality``."""
        return self._model(self.drawing)

    @property
    def encoder(self) -> Path | None:
        """Audio encoder as ONNX: the one the generator was trained with."""
        return self._model(self.manifest.models.audio_encoder)

    @property
    def weights(self) -> Path | None:
        """Weights of the generator for torch."""
        return self._model(self.manifest.models.generator_weights)

    @cached_property
    def rects(self) -> RectArray:
        """int32 [N, 4]: x1, y1, x2, y2 in pixels, x2 and y2 exclusive; four times -1 where no face can be redrawn."""
        array = load_array(existing(self.path, RECTS))
        if array.dtype != np.int32 or array.shape != (self.frame_count, 4):
            raise AvatarError(_misfit(self.path / RECTS, array, f"int32 [{self.frame_count}, 4]"))
        return array.astype(np.int32)

    @cached_property
    def features(self) -> FloatArray | None:
        """float32 [N, 512]: what the audio encoder said of the template's own sound; None without the file."""
        if FEATURES not in self.manifest.files:
            return None
        array = load_array(existing(self.path, FEATURES))
        if array.dtype != np.float32 or array.shape != (self.frame_count, FEATURE_DIM):
            raise AvatarError(_misfit(self.path / FEATURES, array, f"float32 [{self.frame_count}, {FEATURE_DIM}]"))
        check_finite(array, self.path / FEATURES)
        return array.astype(np.float32)

    @cached_property
    def landmarks(self) -> FloatArray | None:
        """float32 [N, L, 2 or 3]: pixels x, y (and depth); NaN in frames without a face; None without the file."""
        if LANDMARKS not in self.manifest.files:
            return None
        array = load_array(existing(self.path, LANDMARKS))
        fits = array.ndim == 3 and array.shape[0] == self.frame_count and array.shape[2] in (2, 3)
        if array.dtype != np.float32 or not fits:
            raise AvatarError(_misfit(self.path / LANDMARKS, array, f"float32 [{self.frame_count}, L, 2 or 3]"))
        return array.astype(np.float32)

    def rect(self, frame: int) -> Rect:
        """Where the face is in template frame ``frame``; ``NO_RECT`` where it cannot be redrawn."""
        x1, y1, x2, y2 = self.rects[frame].tolist()
        return Rect(x1, y1, x2, y2)

    def missing(self) -> list[str]:
        """What the package cannot do, and the way out, in sentences; empty for a complete one."""
        models, files = self.manifest.models, self.manifest.files
        sentences = []
        if models.generator is None and models.generator_weights is None:
            sentences.append(f"no generator: it cannot speak until `lipwright train {self.path}` has made one")
        elif models.generator is None:
            sentences.append(f"the generator is torch weights only: `lipwright export {self.path}` makes it usable")
        if models.audio_encoder is None and models.audio_encoder_weights is not None:
            sentences.append(f"the audio encoder is torch weights only: `lipwright export {self.path}` makes it usable")
        elif models.audio_encoder is None:
            sentences.append("no audio encoder: it cannot hear new speech; import it again with --audio-encoder FILE")
        if FEATURES not in files:
            sentences.append(f"no {FEATURES}: it can speak, but not be trained further")
        if LANDMARKS not in files:
            sentences.append(f"no {LANDMARKS}: quality measures must find the face in every frame themselves")
        return sentences

    def verify(self) -> list[str]:
        """Look into every file; return what is wrong, in sentences. Empty: nothing.

        Hashes, array shapes and values, both networks' inputs and outputs, the film's size and length, and whether
        its colours look swapped.
        """
        return problems(self)

    def _model(self, record: ModelRecord | None) -> Path | None:
        return None if record is None else existing(self.path, record.file)

    def _check_files(self) -> None:
        for name in (TEMPLATE, RECTS):
            if name not in self.manifest.files:
                raise AvatarError(f"{self.path}: {name} is missing from the files that {MANIFEST} lists")
        for key, record in self.manifest.models.records().items():
            if record.file not in self.manifest.files:
                raise AvatarError(f"{self.path / MANIFEST}: models.{key}.file {record.file!r} is not listed in files")
        for name in self.manifest.files:
            existing(self.path, name)

    def _check_encoder(self) -> None:
        if self.encoder is None:
            return
        bound, found = self.manifest.encoder.sha256 or "none", sha256(self.encoder)
        if bound != found:
            raise AvatarError(
                f"{self.encoder} is not the audio encoder that the generator hears by "
                f"(sha256 {found[:12]}..., the manifest is bound to {bound[:12]}...): put the right one back"
            )


def _bound(manifest: Manifest) -> Manifest:
    """Bind a manifest without an encoder's hash to the encoder that lies in the package."""
    record = manifest.models.audio_encoder
    if record is None or manifest.encoder.sha256 is not None:
        return manifest
    return manifest.changed(encoder=manifest.encoder.model_copy(update={"sha256": manifest.files[record.file]}))


def check_rects(rects: RectArray, avatar: Avatar) -> None:
    """Raise AvatarError naming the first rect that is neither ``NO_RECT`` nor a square inside the picture."""
    sizes, where = avatar.manifest.sizes, avatar.path / RECTS
    for frame, (x1, y1, x2, y2) in enumerate(rects.tolist()):
        rect = Rect(x1, y1, x2, y2)
        if rect == NO_RECT:
            continue
        if not rect.inside(sizes.height, sizes.width):
            raise AvatarError(
                f"{where}: the rect of frame {frame}, {rects[frame].tolist()}, is empty or lies outside "
                f"the picture of {sizes.width} x {sizes.height}"
            )
        if rect.width != rect.height:
            raise AvatarError(f"{where}: the rect of frame {frame}, {rects[frame].tolist()}, is not square")


def check_finite(array: npt.NDArray[np.generic], where: Path) -> None:
    """Raise AvatarError naming the first row that holds NaN or infinity."""
    bad = ~np.isfinite(array.astype(np.float64)).all(axis=1)
    if bad.any():
        raise AvatarError(f"{where}: NaN or infinite values in {int(bad.sum())} rows, first in row {int(bad.argmax())}")


def _misfit(where: Path, array: npt.NDArray[np.generic], expected: str) -> str:
    return f"{where}: expected {expected}, got {array.dtype} {list(array.shape)}"
