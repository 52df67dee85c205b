"""``avatar.json``: what an avatar package says about itself.

Every key is documented at its field; ``docs/avatar-format.md`` shows a whole file. Unknown keys are refused, so that a
typing error cannot silently switch something off.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator

from lipwright.audio.window import Padding
from lipwright.contract import AVE, CENTRED, FPS, MASK_XYWH, WINDOW_FUTURE, WINDOW_PAST, Alignment
from lipwright.errors import AvatarError
from lipwright.patch import Resize

FORMAT_VERSION = 1
CONTRACT = "unet328"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Record(BaseModel):
    """Base of every part of the manifest: immutable, finite numbers, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _only_known_keys(cls, data: object) -> object:
        if isinstance(data, Mapping):
            unknown = sorted(str(key) for key in data if key not in cls.model_fields)
            if unknown:
                raise ValueError(f"unknown key {unknown[0]!r}; legal keys: {', '.join(cls.model_fields)}")
        return data


class Sizes(Record):
    """Size of the template film."""

    width: int = Field(gt=0)
    """Pixels."""
    height: int = Field(gt=0)
    """Pixels."""
    frames: int = Field(gt=0)
    """Frames of the template, rows of ``roi_bounds.npy`` and of ``aud_ave.npy``."""


class Window(Record):
    """The features one frame is drawn from."""

    past: int = WINDOW_PAST
    """Features before the frame's own; the contract's 8."""
    future: int = WINDOW_FUTURE
    """Features after the frame's own; the contract's 7."""
    padding: Padding = "edge"
    """What the generator saw beyond the ends of the sound: the last feature repeated, or zeros."""

    @model_validator(mode="after")
    def _as_in_the_contract(self) -> Self:
        if (self.past, self.future) != (WINDOW_PAST, WINDOW_FUTURE):
            raise ValueError(
                f"a window of {self.past} + 1 + {self.future} features does not fit the contract {CONTRACT!r}, "
                f"which has {WINDOW_PAST} + 1 + {WINDOW_FUTURE}"
            )
        return self


class AlignmentRecord(Record):
    """Which mel columns the feature of a frame reads; the fields of ``contract.Alignment``."""

    name: str
    """``centred`` (ours) or ``ave`` (the family's encoder)."""
    offset_fifths: int
    """Column of raw feature j = floor((16 j + offset_fifths) / 5) + first_column."""
    first_column: int
    """See ``offset_fifths``."""
    repeat: int = Field(ge=0)
    """How many times the first feature is repeated in front."""
    extend: bool
    """Count rule. True: one feature a frame, the sound extended by zeros. False: slices stay inside the sound."""

    @model_validator(mode="after")
    def _known_names_keep_their_numbers(self) -> Self:
        for known in (CENTRED, AVE):
            if self.name == known.name and self.to_contract() != known:
                raise ValueError(f"alignment {known.name!r} must have the numbers {asdict(known)}")
        return self

    @classmethod
    def of(cls, alignment: Alignment) -> Self:
        return cls(**asdict(alignment))

    def to_contract(self) -> Alignment:
        return Alignment(**self.model_dump())


class EncoderBinding(Record):
    """The one audio encoder whose features the generator was trained on."""

    sha256: Sha256 | None = None
    """Of ``audio_encoder.onnx``. None: not bound yet, the first encoder that is put into the package binds it."""
    alignment: AlignmentRecord
    """Where the encoder looks for frame i."""


class Parity(Record):
    """Outcome of the comparison between torch and ONNX that export makes on real inputs; fields as export has them.

    Differences are the largest absolute ones of any output value, unless another is named (an audio encoder's relative
    to its largest output).
    """

    max_abs_f32: float = Field(ge=0)
    """torch against onnxruntime, weights in float32."""
    max_abs_rounded: float | None = Field(default=None, ge=0)
    """The same with rounded weights on both sides; None if they are stored in float32."""
    rounded_vs_unrounded: float | None = Field(default=None, ge=0)
    """ONNX with rounded against ONNX with unrounded weights; None likewise."""
    rounded_mean: float | None = Field(default=None, ge=0)
    """The same, but the mean difference; None likewise, and in packages from before it was kept."""
    rounded_p999: float | None = Field(default=None, ge=0)
    """The same, but the 99.9th percentile; None likewise."""
    stored: Literal["f32", "f16", "int8"] | None = None
    """How the file keeps the weights (``runtimes.stored``); None in packages from before it was kept."""
    opset: int = Field(gt=0)
    """ONNX operator set."""
    n_inputs: int = Field(gt=0)
    """Number of real inputs compared."""
    torch: str
    """Version that exported."""
    onnxruntime: str
    """Version that compared."""


class ModelRecord(Record):
    """One network in the package. Its sha256 stands in ``files``."""

    file: str
    """Path inside the package."""
    licence: str
    """SPDX name, or plain words; ``unknown`` where nobody said."""
    origin: str
    """Who made it from what: a command, a file name, an address."""
    width: Literal["full", "mobile"] | None = None
    """Channels of a generator; None: unknown, or not a generator."""
    parity: Parity | None = None
    """The export's comparison; None for networks exported elsewhere."""


class Models(Record):
    """The networks of the package; None where there is none."""

    generator: ModelRecord | None = None
    """UNet-328 as ONNX."""
    generator_fast: ModelRecord | None = None
    """A second one for slow machines, of mobile width, that hears the same encoder."""
    audio_encoder: ModelRecord | None = None
    """Mel to features as ONNX."""
    generator_weights: ModelRecord | None = None
    """torch ``state_dict`` of the generator: for training and export, never for rendering."""
    audio_encoder_weights: ModelRecord | None = None
    """torch ``state_dict`` of a foreign audio encoder, until export has made ONNX of it."""

    def records(self) -> dict[str, ModelRecord]:
        """The networks that are there, by key."""
        found = {key: getattr(self, key) for key in type(self).model_fields}
        return {key: record for key, record in found.items() if record is not None}


class ConsentSeal(Record):
    """A signature over a consent, the avatar's name and the sha256 of its files (``avatar.consent``)."""

    certificate: str
    """Of who signed, PEM."""
    signature: str
    """Base64."""
    files: dict[str, Sha256]
    """What was signed: the avatar's files as they were then, by path inside the package."""


class Consent(Record):
    """Who is shown and who agreed to what."""

    shown: str
    """The person in the film, or ``nobody: synthetic``."""
    agreed_by: str
    """Who gave consent: the person, or a guardian or agent by name."""
    agreed_on: date
    """Day of the consent, as 2026-01-31."""
    purpose: str
    """What the avatar may be used for."""
    proof: str | None = None
    """Where the consent is kept."""
    seal: ConsentSeal | None = None
    """Binds the consent to this avatar; None: not signed."""


class Segment(Record):
    """Template frames start .. stop - 1 without a cut between them."""

    start: int = Field(ge=0)
    """First frame."""
    stop: int = Field(gt=0)
    """One after the last frame."""


class Manifest(Record):
    """The whole of ``avatar.json``."""

    format_version: int = FORMAT_VERSION
    """Version of this file's format."""
    contract: str = CONTRACT
    """Which networks and numbers the package is made for."""
    name: str = Field(min_length=1)
    """What the avatar is called."""
    fps: int = FPS
    """Frames a second of the template."""
    sizes: Sizes
    """Of the template film."""
    mask: tuple[int, int, int, int] = MASK_XYWH
    """x, y, width, height inside the 320 x 320 ROI, as handed to ``cv2.rectangle``."""
    resize: Resize = "auto"
    """Filter between rect and crop: ``cubic`` both ways, or ``auto``: area when shrinking, cubic when enlarging."""
    window: Window = Window()
    """The features a frame is drawn from."""
    encoder: EncoderBinding
    """The audio encoder that the generator belongs to."""
    models: Models = Models()
    """The networks in the package, each with licence and origin."""
    files: dict[str, Sha256] = Field(default_factory=dict)
    """sha256 of every file of the package but this one, by path inside the package."""
    segments: list[Segment] = Field(default_factory=list)
    """Stretches without a cut, in order; empty: the whole template is one."""
    start_frame: int = Field(default=0, ge=0)
    """Template frame to begin with, unless the user names another."""
    source: str = ""
    """Where the pictures come from."""
    assumptions: list[str] = Field(default_factory=list)
    """What an importer had to assume, in sentences."""
    consent: Consent | None = None
    """Who is shown and who agreed; None: not recorded."""
    figures: dict[str, JsonValue] = Field(default_factory=dict)
    """Quality figures, by the name the measuring command gave them."""
    made_with: str = ""
    """Program and version that wrote the package."""

    @field_validator("files")
    @classmethod
    def _files_stay_inside(cls, files: dict[str, Sha256]) -> dict[str, Sha256]:
        for name in files:
            check_relative(name)
        return files

    @model_validator(mode="after")
    def _as_in_the_contract(self) -> Self:
        for key, value, expected in (
            ("format_version", self.format_version, FORMAT_VERSION),
            ("contract", self.contract, CONTRACT),
            ("fps", self.fps, FPS),
            ("mask", self.mask, MASK_XYWH),
        ):
            if value != expected:
                raise ValueError(f"{key} is {value!r}, but this version of lipwright knows only {expected!r}")
        return self

    @model_validator(mode="after")
    def _frames_exist(self) -> Self:
        if self.start_frame >= self.sizes.frames:
            raise ValueError(f"start_frame {self.start_frame} is not one of the {self.sizes.frames} frames")
        end = 0
        for segment in self.segments:
            if not end <= segment.start < segment.stop <= self.sizes.frames:
                raise ValueError(
                    f"segment {segment.start}..{segment.stop} overlaps another, is empty or "
                    f"leaves the {self.sizes.frames} frames"
                )
            end = segment.stop
        return self

    @classmethod
    def new(
        cls,
        name: str,
        sizes: Sizes,
        *,
        alignment: Alignment = CENTRED,
        padding: Padding = "edge",
        **more: Any,
    ) -> Self:
        """A manifest for a package about to be written; ``more`` are further fields by name."""
        encoder = EncoderBinding(alignment=AlignmentRecord.of(alignment))
        return cls(name=name, sizes=sizes, encoder=encoder, window=Window(padding=padding), **more)

    def changed(self, **fields: Any) -> Self:
        """A copy with some fields replaced, checked like a new one (pydantic's ``model_copy`` checks nothing)."""
        return type(self)(**{**{key: getattr(self, key) for key in type(self).model_fields}, **fields})

    @classmethod
    def parse(cls, text: str, where: str) -> Self:
        """Read the JSON ``text``; ``where`` names the file in messages.

        Raises:
            AvatarError: not JSON, another format version, an unknown key (the legal ones are listed), a wrong value.
        """
        _check_version(text, where)
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise AvatarError(f"{where}: {_in_one_line(error)}") from error

    def to_json(self) -> str:
        return self.model_dump_json(indent=2) + "\n"


def check_relative(name: str) -> None:
    """Raise ValueError unless ``name`` is a plain path inside the package, written with forward slashes."""
    pure = PurePosixPath(name)
    plain = name == str(pure) and name not in ("", ".") and "\\" not in name and "\0" not in name
    if not plain or pure.is_absolute() or ".." in pure.parts or PureWindowsPath(name).anchor:
        raise ValueError(f"path {name!r} leaves the package or is not a plain relative path")


def _check_version(text: str, where: str) -> None:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AvatarError(f"{where} is not valid JSON: {error}") from error
    if not isinstance(data, dict) or "format_version" not in data:
        raise AvatarError(f"{where} has no format_version: it is not the manifest of an avatar")
    version = data["format_version"]
    if version != FORMAT_VERSION:
        remedy = (
            "update lipwright" if isinstance(version, int) and version > FORMAT_VERSION else "make the avatar again"
        )
        raise AvatarError(f"{where} has format version {version!r}, this lipwright reads {FORMAT_VERSION}: {remedy}")


def _in_one_line(error: ValidationError) -> str:
    """The first problem, as ``key.key: what is wrong``, and how many more there are."""
    first, *rest = error.errors(include_url=False)
    where = ".".join(str(part) for part in first["loc"])
    what = first["msg"].removeprefix("Value error, ")
    more = f" (and {len(rest)} more)" if rest else ""
    return f"{where}: {what}{more}" if where else f"{what}{more}"
