"""Packages made elsewhere, turned into ``NAME.avatar``; what was taken and what was assumed is said."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lipwright.audio.window import Padding
from lipwright.avatar.checks import check_network
from lipwright.avatar.films import read_template
from lipwright.avatar.layouts import (
    ENCODERS,
    FEATURE_FILES,
    GENERATOR_WEIGHTS,
    GENERATORS,
    Layout,
    find_first,
    find_model,
    find_template,
    read_features,
    read_landmarks,
    read_rects,
    recognise,
    usable_rects,
)
from lipwright.avatar.manifest import Manifest, ModelRecord, Models, Sizes
from lipwright.avatar.package import FEATURES, LANDMARKS, MODEL_FILES, RECTS, TEMPLATE, Avatar, ModelKey
from lipwright.avatar.storage import MANIFEST, Content, check_target
from lipwright.contract import AVE
from lipwright.errors import AvatarError

#: First bytes of what torch saves: a zip archive, or a bare pickle in the old form.
TORCH_MAGIC = (b"PK\x03\x04", b"\x80\x02")

UNKNOWN = "unknown"
AVE_LICENCE = "unknown; the published AVE encoder of this family is for non-commercial use only"


@dataclass(slots=True)
class ImportReport:
    """What an import did."""

    layout: str
    """A, B, C or D."""
    avatar: Avatar
    """The new package."""
    took: list[str] = field(default_factory=list)
    """File by file: what became what."""
    assumed: list[str] = field(default_factory=list)
    """What the foreign package does not say; also kept in the manifest."""
    problems: list[str] = field(default_factory=list)
    """What ``Avatar.verify`` has to say about the result."""

    def lines(self) -> list[str]:
        """The report as text, one fact a line."""
        parts = (
            ("took", self.took),
            ("assumed", self.assumed),
            ("cannot", self.avatar.missing()),
            ("suspicious", self.problems),
        )
        return [f"layout {self.layout}: {self.avatar.path}", *(f"{key}: {line}" for key, of in parts for line in of)]


@dataclass(slots=True)
class _Draft:
    """A package under construction."""

    source: Path
    layout: Layout
    contents: dict[str, Content] = field(default_factory=dict)
    records: dict[ModelKey, ModelRecord] = field(default_factory=dict)
    took: list[str] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)

    def add(self, name: str, origin: Path, content: Content) -> None:
        self.contents[name] = content
        self.took.append(f"{self.label(origin)} as {name}")

    def label(self, path: Path) -> str:
        """How the report names a file of the package, or one given beside it."""
        return path.relative_to(self.source).as_posix() if path.is_relative_to(self.source) else path.name


def import_package(
    source: Path,
    out: Path,
    *,
    audio_encoder: Path | None = None,
    generator: Path | None = None,
    padding: Padding | None = None,
    replace: bool = False,
) -> ImportReport:
    """Turn a foreign package into an avatar.

    Args:
        source: folder in one of the layouts A to D (``docs/avatar-format.md``).
        out: ``NAME.avatar``.
        audio_encoder: ONNX or ``.pth`` of the encoder the generator was trained with, where the package has none.
        generator: ONNX or ``.pth`` to use instead of the package's own.
        padding: what the generator saw beyond the ends of the sound; None: ``zeros``, as that family trains.
        replace: whether an avatar called ``out`` may be replaced.

    Raises:
        AvatarError: the layout is not known, or a part is damaged or fits no other; the message names the file.
        MediaError: the film cannot be read.
        ContractError: a network has other inputs or outputs than the contract's.
    """
    if (source / MANIFEST).is_file():
        raise AvatarError(f"{source} is an avatar already: nothing to import")
    check_target(out, replace=replace)
    draft = _Draft(source, recognise(source))
    with tempfile.TemporaryDirectory(prefix="lipwright-") as scratch:
        sizes = _take_template(draft, Path(scratch))
        _take_arrays(draft, sizes)
        _take_generator(draft, generator)
        _take_encoder(draft, audio_encoder)
        _assume(draft, padding)
        avatar = Avatar.create(out, _manifest(draft, out, sizes, padding or "zeros"), draft.contents, replace=replace)
    return ImportReport(draft.layout.letter, avatar, draft.took, draft.assumed, avatar.verify())


def _manifest(draft: _Draft, out: Path, sizes: Sizes, padding: Padding) -> Manifest:
    return Manifest.new(
        out.stem,
        sizes,
        alignment=AVE,
        padding=padding,
        resize="cubic",
        models=Models(**{str(key): record for key, record in draft.records.items()}),
        source=f"imported from {draft.source.name} (layout {draft.layout.letter})",
        assumptions=draft.assumed,
    )


def _assume(draft: _Draft, padding: Padding | None) -> None:
    """What every package of that family leaves unsaid."""
    if padding is None:
        draft.assumed.append(
            "beyond the ends of the sound the generator saw zeros (padding zeros), as SyncTalk_2D trains"
        )
    draft.assumed += [
        "features are aligned as the AVE encoder of SyncTalk_2D does it",
        "crops are resized by cubic interpolation both ways",
        "pictures are BGR, 0..1 inside the networks, and the template has no cuts",
    ]


# --- template, rects, features, landmarks -----------------------------------------------------------------------------


def _take_template(draft: _Draft, scratch: Path) -> Sizes:
    found = find_template(draft.source, draft.layout)
    template = read_template(found, scratch / TEMPLATE)
    draft.add(TEMPLATE, found, template.film)
    draft.assumed += template.notes
    return template.sizes


def _take_arrays(draft: _Draft, sizes: Sizes) -> None:
    rects_path = draft.source / draft.layout.rects
    raw, notes = read_rects(rects_path)
    rects, changes = usable_rects(raw, sizes, rects_path)
    draft.add(RECTS, rects_path, rects)
    draft.assumed += [*notes, *changes]

    features_path = find_first(draft.source, FEATURE_FILES)
    if features_path is not None:
        features, notes = read_features(features_path, sizes.frames)
        draft.add(FEATURES, features_path, features)
        draft.assumed += notes

    landmarks_path = draft.source / "landmarks"
    if landmarks_path.is_dir():
        landmarks, notes = read_landmarks(landmarks_path, sizes.frames)
        draft.add(LANDMARKS, landmarks_path, landmarks)
        draft.assumed += notes


# --- networks ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Slot:
    """Where one kind of network goes in a package."""

    kind: Literal["generator", "encoder"]
    onnx: ModelKey
    torch: ModelKey
    licence: str


_GENERATOR = _Slot("generator", "generator", "generator_weights", UNKNOWN)
_ENCODER = _Slot("encoder", "audio_encoder", "audio_encoder_weights", AVE_LICENCE)


def _take_generator(draft: _Draft, given: Path | None) -> None:
    if given is not None:
        _take_network(draft, given, _GENERATOR)
        return
    for names, suffix in ((GENERATORS, ".onnx"), (GENERATOR_WEIGHTS, ".pth")):
        path = find_model(draft.source, names, suffix)
        if path is not None:
            _take_network(draft, path, _GENERATOR)


def _take_encoder(draft: _Draft, given: Path | None) -> None:
    path = given or find_first(draft.source, ENCODERS)
    if path is not None:
        _take_network(draft, path, _ENCODER)
        draft.assumed.append(f"{draft.label(path)} is the encoder that the generator was trained with")


def _take_network(draft: _Draft, path: Path, slot: _Slot) -> None:
    """Put an ONNX file or torch weights in their place; weights are stored as they are and never unpickled here."""
    if path.suffix == ".onnx":
        check_network(path, slot.kind)
        key = slot.onnx
        _take_external_data(draft, path, MODEL_FILES[key])
    else:
        _check_torch_file(path)
        key = slot.torch
    draft.add(MODEL_FILES[key], path, path)
    draft.records[key] = ModelRecord(
        file=MODEL_FILES[key],
        licence=slot.licence,
        origin=_origin(draft, path),
    )


def _origin(draft: _Draft, path: Path) -> str:
    if path.is_relative_to(draft.source):
        return f"imported from {draft.source.name}: {draft.label(path)}"
    return f"given with the import: {path.name}"


def _take_external_data(draft: _Draft, model: Path, name: str) -> None:
    """Large ONNX files keep their weights beside them, under a name that the graph remembers."""
    data = model.with_name(f"{model.name}.data")
    if data.is_file():
        draft.add(Path(name).with_name(data.name).as_posix(), data, data)


def _check_torch_file(path: Path) -> None:
    if path.suffix not in (".pth", ".pt"):
        raise AvatarError(f"{path}: a network must be .onnx, or torch weights .pth")
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise AvatarError(f"{path} cannot be read: {error.strerror}") from error
    if not head.startswith(TORCH_MAGIC):
        raise AvatarError(f"{path} is not a file of torch weights")
