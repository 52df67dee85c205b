"""What was measured when an avatar was made, on frames it had never seen, kept in its manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lipwright.avatar import Avatar
from lipwright.check.findings import Finding
from lipwright.quality import FREE

SECTION = "quality when it was made"
#: Where a figure stands in the manifest, and what it is called here.
_SHOWN = {
    ("own sound", "lip_gap_r"): "lips follow the sound, r",
    ("own sound", "lip_gap_lag"): "lips late, frames",
    ("own sound", "lip_gap_amplitude"): "how far the lips move",
    ("own sound", "lmd"): "lips beside their place, share of the face's width",
    ("own sound", "closed_recall"): "lips closed when they should be",
    ("own sound", "psnr"): "likeness of the mouth, dB",
    ("own sound", "ssim"): "structure of the mouth",
    ("own sound", "sharpness"): "sharpness of the mouth",
    ("own sound", "seam_soft"): "step in colour at the border, of 255",
    ("other sound", "closed_recall"): "lips closed on another's p, b and m",
    ("silence", "gap_99"): "lips open in silence, share of the face's height",
    ("silence", "step_99"): "lips tremble in silence, share of the face's height",
}


def as_made(avatar: Avatar) -> Iterator[Finding]:
    """A note for every figure that ``create`` or ``train`` kept, its free baselines beside it; else none."""
    kept = avatar.manifest.figures.get("quality")
    if not isinstance(kept, dict):
        return
    yield Finding.note(SECTION, "in short", str(avatar.manifest.figures.get("quality_verdict", "")))
    for (case, key), name in _SHOWN.items():
        if (value := _figure(kept, case, key)) is not None:
            beside = [f"{free} {found:.3g}" for free in FREE if (found := _figure(kept, free, key)) is not None]
            yield Finding.note(SECTION, name, f"{value:.3g}" + (f" ({', '.join(beside)})" if beside else ""))


def _figure(kept: Mapping[str, object], case: str, key: str) -> float | None:
    figures = kept.get(case)
    value = figures.get(key) if isinstance(figures, Mapping) else None
    return float(value) if isinstance(value, int | float) else None
