"""``train_avatar``: pack, train, export with parity, measure, and write everything into the avatar."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lipwright.avatar import Avatar, ModelRecord, sign_consent
from lipwright.avatar.package import WEIGHTS
from lipwright.avatar.storage import remove_folder
from lipwright.create.agreement import kept_answer
from lipwright.create.report import Figures, training_verdict, with_training
from lipwright.create.step import Step
from lipwright.credentials import Identity
from lipwright.durable import take_name
from lipwright.errors import AvatarError, LipwrightError, MissingExtraError
from lipwright.export_avatar import export_avatar
from lipwright.prepare import FILM_SHA256, REPORT, forget_pieces
from lipwright.render import Networks

if TYPE_CHECKING:
    from lipwright.models.generator import Width
    from lipwright.training.data import Frames
    from lipwright.training.pack import Pack

logger = logging.getLogger(__name__)

#: Suffix of the folder beside an avatar in which its training lives until it is done.
_FOLDER = ".training"
_PACK, _RUN = "pack.npz", "run"
_LICENCE = "yours: made from your film"
_LICENCE_BASED = "yours: made from your film and a base under its own licence ({base})"
#: What is said of a base whose name was not kept.
_SOMEBODY = "another avatar"

Show = Callable[[Step], None]


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of a training."""

    avatar: Avatar
    """It can speak."""
    verdict: str
    """How good it is and what would make it better, in a few sentences."""
    figures: dict[str, Figures]
    """Measured on the finished frames."""
    training: dict[str, Any]
    """What the training itself wrote down."""

    @property
    def report(self) -> Path:
        """The page that shows it all."""
        return self.avatar.path / REPORT


def training_folder(avatar: Path) -> Path:
    """Where the training of ``avatar`` lives until it is done."""
    return avatar.with_suffix(_FOLDER)


def train_avatar(
    avatar: Avatar,
    *,
    minutes: float = 30,
    device: str = "cpu",
    base: Avatar | None = None,
    width: Width | None = None,
    baselines: bool = False,
    trained: Path | None = None,
    identity: Identity | None = None,
    progress: Show = lambda _: None,
) -> Trained:
    """Teach a prepared avatar to speak. Called again after it was stopped, it goes on.

    A consent that waits beside it (``agreement.settle``) is signed with the finished avatar.

    Args:
        avatar: as ``lipwright prepare`` made it.
        minutes: time for the training itself.
        device: as for `usable_device`.
        base: an avatar whose generator is the start; None: the built-in presenter, where both hear alike.
        width: of the generator, ``full`` or ``mobile``; None: the base's.
        baselines: also train plainly, for comparison; takes longer than the rest.
        trained: a folder in which ``python -m lipwright.training`` has finished: nothing is trained here.
        identity: who signs a consent; None: the user's own local key.
        progress: called now and then.

    Raises:
        AvatarError: it lacks what a training needs, the disk refuses, or what was written is not right.
        CredentialsError: there is nothing fit to sign a consent with.
        LipwrightError: the film is too short, there is no such device, or the exported network draws something else.
        MissingExtraError: torch or onnx is not installed.
    """
    require_torch()
    if trained is None:
        device = usable_device(device)
    from lipwright.create.measure import measure
    from lipwright.training.person import FIGURES, PLAIN, SHEET, joined, train_person, travelled
    from lipwright.training.person import WEIGHTS as RUN_WEIGHTS

    if trained is not None:
        _check_film(avatar, _read_figures(trained / FIGURES), trained)
    pack = (_kept_pack(avatar) if trained else None) or open_pack(avatar, base, width, progress)
    folder = trained or training_folder(avatar.path) / _RUN
    if trained is None:
        train_person(
            pack,
            folder,
            minutes=minutes,
            device=device,
            width=width,
            baselines=baselines,
            progress=lambda p: progress(Step(p.step, p.done, p.total)),
        )
    weights = joined(folder / RUN_WEIGHTS)
    done = _read_figures(folder / FIGURES)
    speaking = _with_generator(avatar, weights, done, progress)
    plain = joined(folder / PLAIN) if travelled(folder / PLAIN) else None
    put_aside = _as_trained(pack, done)
    figures = measure(speaking, Networks.open(speaking), put_aside, _measured(put_aside, done), plain, progress)
    finished = _signed(_with_report(speaking, figures, done, folder / SHEET), identity)
    progress(Step("checking every file", 0, None))
    _check_files(finished)
    forget_pieces(avatar.path)
    remove_folder(training_folder(avatar.path))
    return Trained(finished, training_verdict(figures, done), figures, done)


def _signed(avatar: Avatar, identity: Identity | None) -> Avatar:
    """The avatar with the consent that waits beside it, if one does that is about its film."""
    answer = kept_answer(training_folder(avatar.path), str(avatar.manifest.figures.get(FILM_SHA256)))
    if answer is None or answer.record is None:
        return avatar
    return sign_consent(avatar, answer.record, identity or Identity.local())


def _check_files(avatar: Avatar) -> None:
    """Raise AvatarError unless every file is as the manifest says. What trained it is still there then."""
    wrong = avatar.verify()
    if wrong:
        raise AvatarError(
            f"{avatar.path} is not right: {wrong[0]} (and {len(wrong) - 1} more): remove it and "
            f"{training_folder(avatar.path)}, and make it again"
        )


def training_begun(avatar: Path) -> bool:
    """Whether a training of ``avatar`` was begun and not brought to its end."""
    folder = training_folder(avatar)
    return (folder / _PACK).exists() or (folder / _RUN).exists()


def has_learnt(avatar: Path) -> bool:
    """Whether a training of ``avatar`` holds a checkpoint that would be lost."""
    return any((training_folder(avatar) / _RUN).glob("*.pth"))


def planned_minutes(avatar: Path) -> float | None:
    """What a training of ``avatar`` that was begun was planned for; None where none was."""
    from lipwright.training.person import PLAN
    from lipwright.training.plan import Plan

    plan = training_folder(avatar) / _RUN / PLAN
    return Plan.load(plan).minutes if plan.is_file() else None


def forget_training(avatar: Path) -> None:
    """Remove what was packed and trained for an avatar that is made anew; an answer about consent stays."""
    folder = training_folder(avatar)
    shutil.rmtree(folder / _RUN, ignore_errors=True)
    (folder / _PACK).unlink(missing_ok=True)


def require_torch() -> None:
    """Raise MissingExtraError unless torch and onnx are installed."""
    for module in ("torch", "onnx"):
        try:
            __import__(module)
        except ImportError as error:
            raise MissingExtraError(module, "train") from error


def usable_device(name: str) -> str:
    """As `training.person.device_for`, asked before anything that takes long.

    Raises:
        LipwrightError: torch has no such device.
        MissingExtraError: torch or onnx is not installed.
    """
    require_torch()
    from lipwright.training.person import device_for

    return device_for(name)


def open_pack(
    avatar: Avatar, base: Avatar | None = None, width: Width | None = None, progress: Show = lambda _: None
) -> Pack:
    """The avatar's training pack, beside the avatar; written anew while nothing was trained from another beginning.

    Raises:
        AvatarError: the avatar lacks what a training needs, or the base is not fit for it.
    """
    from lipwright.training.base import same
    from lipwright.training.collect import collect, find_beginning, trainable
    from lipwright.training.pack import Pack
    from lipwright.training.person import PLAN

    trainable(avatar)
    beginning, kept = find_beginning(avatar, base, width), _kept_pack(avatar)
    path = training_folder(avatar.path) / _PACK
    if kept and (same(kept.base, beginning.weights) or (path.parent / _RUN / PLAN).exists()):
        if kept.base_name != beginning.name:
            begun = kept.base_name or "nothing"
            logger.warning("going on as begun, from %s: remove %s to begin anew", begun, path.parent)
        return kept
    path.parent.mkdir(exist_ok=True)
    collect(avatar, beginning, lambda what, done, total: progress(Step(what, done, total))).save(path)
    return Pack.load(path)


def _kept_pack(avatar: Avatar) -> Pack | None:
    """The training pack that lies beside the avatar, if one of its film does.

    One of another film goes, with the plan that was made for it, while nothing was learnt from it.

    Raises:
        AvatarError: one of another film does, and a training has begun with it.
    """
    from lipwright.training.collect import film_of

    folder = training_folder(avatar.path)
    pack = _whole_pack(folder / _PACK) if (folder / _PACK).exists() else None
    if pack is None or pack.film in ("", film_of(avatar)):
        return pack
    if has_learnt(avatar.path):
        raise AvatarError(
            f"{folder} holds what was learnt from another film or sound than that of {avatar.path}: remove it to begin "
            "anew"
        )
    forget_training(avatar.path)
    return None


def _whole_pack(path: Path) -> Pack:
    """The pack that was made beside an avatar.

    Raises:
        LipwrightError: it is damaged.
    """
    from lipwright.training.pack import Pack

    try:
        return Pack.load(path)
    except LipwrightError as error:
        raise LipwrightError(f"{error}; this one lies beside its avatar: remove it, and call again") from error


def pack_avatar(
    avatar: Avatar, out: Path, base: Avatar | None = None, width: Width | None = None, progress: Show = lambda _: None
) -> None:
    """Write the avatar's training pack to ``out``, for a machine on which nothing but torch and OpenCV is installed."""
    require_torch()
    open_pack(avatar, base, width, progress)
    part = out.with_name(f".{out.name}.part")
    shutil.copyfile(training_folder(avatar.path) / _PACK, part)
    take_name(part, out)


def _read_figures(path: Path) -> dict[str, Any]:
    try:
        figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        figures["began_from"] = figures.get("began_from") or _SOMEBODY
    except (OSError, ValueError) as error:
        raise LipwrightError(f"{path} cannot be read ({error}): let the training finish first") from error
    return figures


def _check_film(avatar: Avatar, done: dict[str, Any], folder: Path) -> None:
    """Raise LipwrightError if a training was of another film; one of an older version tells by its length alone."""
    from lipwright.training.collect import film_of

    # What is put aside ends with the film.
    if done.get("film", "") not in ("", film_of(avatar)) or done["held_out"]["stop"] != avatar.frame_count:
        raise LipwrightError(
            f"{folder} was trained on another film than that of {avatar.path}: give the avatar whose pack was trained, "
            "or the folder of its training; nothing was changed"
        )


def _as_trained(pack: Pack, done: dict[str, Any]) -> Pack:
    """The pack with those frames put aside that the training put aside: it may have been asked for others."""
    return replace(pack, held_out=(done["held_out"]["first"], done["held_out"]["stop"]))


def _measured(pack: Pack, done: dict[str, Any]) -> Frames:
    """[n] the frames that the training was scored on; one of an older version was on all that were put aside."""
    first = int(done["held_out"].get("measured_from", 0))
    frames: Frames = pack.held_frames()
    return frames[frames >= first]


def _with_generator(avatar: Avatar, weights: Path, done: dict[str, Any], progress: Show) -> Avatar:
    """The avatar with its weights, and the network exported from them and compared."""
    from lipwright.training.collect import PRESENTER

    progress(Step("exporting the network", 0, None))
    presenter = f"{PRESENTER}, Apache-2.0"
    licence = _LICENCE_BASED.format(base=presenter if done["began_from"] == PRESENTER else done["began_from"])
    record = ModelRecord(
        file=WEIGHTS,
        licence=_LICENCE if done["base"] == "none" else licence,
        origin=f"lipwright train: {done['pictures']} pictures, {done['seconds'] / 60:.0f} minutes on {done['device']}",
        width=done["width"],
    )
    models = avatar.manifest.models.model_copy(update={"generator_weights": record, "generator": None})
    manifest = avatar.manifest.changed(models=models)
    return _exported(avatar.save(manifest=manifest, contents={WEIGHTS: weights}))


def _exported(avatar: Avatar) -> Avatar:
    """With the network exported in half the size, or in full where rounding would change what it draws.

    That happens with networks that have learnt little. What is wrong otherwise is wrong again, and raised.
    """
    try:
        return export_avatar(avatar)
    except LipwrightError as error:
        logger.info("storing unrounded weights, twice the size: %s", error)
        return export_avatar(avatar, store="f32")


def _with_report(avatar: Avatar, figures: dict[str, Figures], done: dict[str, Any], sheet: Path) -> Avatar:
    """The avatar with its figures in the manifest and in the report."""
    page = avatar.path / REPORT
    text = page.read_text(encoding="utf-8") if page.is_file() else None
    manifest = avatar.manifest.changed(
        figures=avatar.manifest.figures
        | {"quality": figures, "training": done, "quality_verdict": training_verdict(figures, done)}
    )
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / REPORT
        report.write_text(with_training(text, avatar.name, figures, done, sheet), encoding="utf-8")
        return avatar.save(manifest=manifest, contents={REPORT: report})
