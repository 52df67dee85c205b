"""What a check found, as ``check.json`` for programs and ``check.html`` for people."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from math import isfinite
from pathlib import Path

import cv2
import numpy as np

from lipwright.check.checkpoints import NEAREST, Contest, Score
from lipwright.check.difference import Difference
from lipwright.check.findings import Finding, Verdict
from lipwright.check.limits import LEVEL
from lipwright.check.parity import Comparison
from lipwright.check.sheets import write_png
from lipwright.contract import UInt8Array
from lipwright.trial import Stamp, as_json, plain, write_whole

PAGE, DATA = "check.html", "check.json"
CONTEST_SHEET = "checkpoints.png"
_MARKS: dict[Verdict, str] = {"good": "kept", "broken": "BROKEN", "unmeasured": "not judged", "note": "note"}
#: JPEG quality of the sheets inside the page; the PNG files beside it are exact.
_QUALITY = 88

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>lipwright check: {name}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; width: 100%; margin-bottom: 1rem }}
td, th {{ text-align: left; padding: .3rem .6rem; vertical-align: top; border-bottom: 1px solid #ddd }}
td.n, th.n {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }}
td.what {{ width: 26% }} td.limit {{ width: 24%; color: #555 }} td.mark {{ width: 7rem; white-space: nowrap }}
.verdict {{ font-size: 1.25rem }} img {{ width: 100%; border: 1px solid #ddd }}
.good {{ color: #23703a }} .broken {{ color: #b00020; font-weight: 700 }} .unmeasured {{ color: #8a6100 }}
.note {{ color: #555 }} footer {{ color: #555; font-size: .9rem; margin-top: 2rem }}
</style></head><body>
<h1>lipwright check: {name}</h1>
<p class="verdict {tone}">{verdict}</p>
{findings}{figures}{contest}
<footer>{stamp}</footer>
</body></html>
"""


@dataclass(frozen=True)
class Report:
    """Everything that was found."""

    name: str
    """What was looked at."""
    stamp: Stamp
    findings: list[Finding] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    contest: Contest | None = None

    @property
    def broken(self) -> list[Finding]:
        """The limits that were not kept."""
        return [finding for finding in self.findings if finding.verdict == "broken"]

    def verdict(self) -> str:
        """The whole report in a sentence."""
        judged = [finding for finding in self.findings if finding.verdict in ("good", "broken")]
        skipped = sum(finding.verdict == "unmeasured" for finding in self.findings)
        rest = f" {skipped} could not be judged here." if skipped else ""
        if self.broken:
            return f"{len(self.broken)} of {len(judged)} limits are broken, first: {self.broken[0].what}.{rest}"
        return f"All {len(judged)} limits are kept.{rest}"


def write_report(report: Report, folder: Path) -> Path:
    """Write ``check.json`` and ``check.html`` (whole in itself) into ``folder``; the page's path.

    Raises:
        MediaError: the folder cannot be written.
    """
    if report.contest is not None:
        write_png(report.contest.sheet, folder / CONTEST_SHEET)
    write_whole(folder / DATA, as_json(as_data(report)))
    write_whole(folder / PAGE, _page(report, folder).encode())
    return folder / PAGE


def as_data(report: Report) -> object:
    """Plain values; what cannot be measured and what is infinite is null."""
    contest = report.contest
    scored = None
    if contest is not None:
        scores = [asdict(score) for score in contest.scores]
        scored = {"best": contest.best, "scores": scores, "references": sorted(set(contest.references))}
    data = {
        "name": report.name,
        "verdict": report.verdict(),
        "broken": len(report.broken),
        "findings": [asdict(finding) for finding in report.findings],
        "comparisons": [asdict(comparison) for comparison in report.comparisons],
        "checkpoints": scored,
        "stamp": asdict(report.stamp),
    }
    return plain(data)


# --- the page -------------------------------------------------------------------------------------------------------


def _page(report: Report, folder: Path) -> str:
    return _PAGE.format(
        name=escape(report.name),
        tone="broken" if report.broken else "good",
        verdict=escape(report.verdict()),
        findings="".join(_section(name, report.findings) for name in dict.fromkeys(f.section for f in report.findings)),
        figures=_figures(report.comparisons, folder) if report.comparisons else "",
        contest=_contest(report.contest) if report.contest else "",
        stamp="<br>".join(escape(line) for line in report.stamp.lines()),
    )


def _section(name: str, findings: Sequence[Finding]) -> str:
    rows = [_row(finding) for finding in findings if finding.section == name]
    head = "<tr><th></th><th>What</th><th>Seen</th><th>Allowed</th></tr>"
    return f"<h2>{escape(name.capitalize())}</h2><table>{head}{''.join(rows)}</table>\n"


def _row(finding: Finding) -> str:
    mark = f'<td class="mark {finding.verdict}">{_MARKS[finding.verdict]}</td>'
    what, seen, limit = (escape(text) for text in (finding.what, finding.seen, finding.limit))
    return f'<tr>{mark}<td class="what">{what}</td><td>{seen}</td><td class="limit">{limit}</td></tr>'


def _figures(comparisons: Sequence[Comparison], folder: Path) -> str:
    head = ["mean", "std", "min", "max", "mean diff", "max diff", "99.9 %", "PSNR", "pixels off > 2/255", "lip r"]
    rows = [_cells("", head, "th")]
    if comparisons:
        first = comparisons[0].difference
        rows.append(_cells("reference", [*_spread(first.expected), *([""] * 6)]))
    rows += [_cells(c.name, figures(c.difference)) for c in comparisons]
    shown = "".join(_shown(comparison, folder) for comparison in comparisons)
    note = "<p>Values are those of the network's output, 0..1; differences in levels of 255.</p>"
    return f"<h2>Figures</h2>{note}<table>{''.join(rows)}</table>{shown}\n"


def figures(difference: Difference) -> list[str]:
    """One comparison as the cells of a table: the second side's values, then the differences in levels of 255."""
    levels = [difference.mean_abs, difference.max_abs, difference.p999_abs]
    psnr = f"{difference.psnr:.1f} dB" if isfinite(difference.psnr) else "equal"
    r = "" if difference.lip_gap_r != difference.lip_gap_r else f"{difference.lip_gap_r:.4f}"
    told = [f"{value / LEVEL:.3g}" for value in levels]
    return [*_spread(difference.got), *told, psnr, f"{difference.pixels_off:.3%}", r]


def _spread(spread: object) -> list[str]:
    return [f"{value:.4f}" for value in asdict(spread).values()]  # type: ignore[call-overload]


def _cells(name: str, cells: Iterable[str], tag: str = "td") -> str:
    values = "".join(f'<{tag} class="n">{escape(cell)}</{tag}>' for cell in cells)
    return f"<tr><{tag}>{escape(name)}</{tag}>{values}</tr>"


def _shown(comparison: Comparison, folder: Path) -> str:
    sheet = cv2.imread(str(folder / comparison.sheet))
    film = f' <a href="{escape(comparison.film)}">film</a>' if comparison.film else ""
    title = f"<h3>{escape(comparison.name)}</h3><p>{escape(comparison.detail)}.{film}</p>"
    return title + ("" if sheet is None else _image(np.asarray(sheet, np.uint8), comparison.name))


def _image(picture: UInt8Array, text: str) -> str:
    jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
    return f'<img alt="{escape(text)}" src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode("ascii")}">'


def _contest(contest: Contest) -> str:
    head = ["lip-gap r", "PSNR mouth", "SSIM mouth", "sharpness", "frames"]
    rows = [_cells("", head, "th"), *(_cells(s.name, score_cells(s)) for s in contest.scores)]
    told = (
        f"<p>Best: <b>{escape(contest.best)}</b>. Held-back frames, drawn from references of the training part "
        f"(named in {DATA}); first counts whether the lips move as in the film, then the picture of the mouth. "
        f"{escape(NEAREST.capitalize())}: that reference pasted in, which every network must beat.</p>"
    )
    return f"<h2>Checkpoints</h2>{told}<table>{''.join(rows)}</table>{_image(contest.sheet, 'checkpoints')}\n"


def score_cells(score: Score) -> list[str]:
    """One checkpoint as the cells of a table."""
    r = "not measured" if score.lip_gap_r != score.lip_gap_r else f"{score.lip_gap_r:.3f}"
    return [r, f"{score.psnr:.2f} dB", f"{score.ssim:.3f}", f"{score.sharpness:.2f}", str(score.frames)]
