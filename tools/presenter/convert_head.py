"""Pack the light model of ICT-FaceKit (MIT licence) into one compact file.

    python -m tools.presenter.convert_head ICT-FaceKit/FaceXModel head.npz --identities 20

Neither the model nor the file made of it is part of lipwright: the user fetches the one and makes the other.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lipwright.contract import FloatArray
from lipwright.errors import LipwrightError
from tools.presenter.head import PARTS, HeadModel

NEUTRAL = "generic_neutral_mesh.obj"
#: Name, last vertex and last polygon of each part, in the order of the README.md of ICT-FaceKit; parts follow each
#: other without holes.
_LAST = (9408, 11247, 13293, 13677, 14061, 17038, 21450, 22220, 23020, 23790, 24590, 24794, 24998, 25022, 25046, 25198)
_LAST_VERTEX = (*_LAST, 25350, 26034, 26718)
_LAST_POLYGON = (
    *(9229, 11143, 13225, 13629, 14033, 17005, 21495, 22295, 23093, 23893, 24691, 24854, 25017, 25032, 25047),
    *(25175, 25303, 25843, 26383),
)
#: The usual 68 landmarks, as the README.md gives them.
_LANDMARKS = (
    *(1225, 1888, 1052, 367, 1719, 1722, 2199, 1447, 966, 3661, 4390, 3927, 3924, 2608, 3272, 4088, 3443),
    *(268, 493, 1914, 2044, 1401, 3615, 4240, 4114, 2734, 2509, 978, 4527, 4942, 4857, 1140, 2075, 1147, 4269, 3360),
    *(1507, 1542, 1537, 1528, 1518, 1511, 3742, 3751, 3756, 3721, 3725, 3732),
    *(5708, 5695, 2081, 0, 4275, 6200, 6213, 6346, 6461, 5518, 5957, 5841, 5702, 5711, 5533, 6216, 6207, 6470, 5517),
    5966,
)
Corner = tuple[int, int]


def read_vertices(path: Path) -> FloatArray:
    """[V, 3] of an OBJ file, cm.

    Raises:
        LipwrightError: the file is not there.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except FileNotFoundError as error:
        raise LipwrightError(f"{path} is missing: pass the folder FaceXModel of a checkout of ICT-FaceKit") from error
    return np.array([line.split()[1:4] for line in lines if line.startswith("v ")], np.float32)


def read_polygons(path: Path) -> tuple[FloatArray, list[list[Corner]]]:
    """Texture coordinates [n, 2] (v upwards), and each polygon's corners as (position, texture) indices from 0."""
    uv, polygons = [], []
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith("vt "):
            uv.append(line.split()[1:3])
        elif line.startswith("f "):
            corners = (corner.split("/") for corner in line.split()[1:])
            polygons.append([(int(c[0]) - 1, int(c[1]) - 1) for c in corners])
    return np.array(uv, np.float32), polygons


def _parts(last: Iterable[int]) -> npt.NDArray[np.uint8]:
    """Part of each vertex or polygon, from the last of each part."""
    counts = np.diff([-1, *last])
    return np.repeat(np.arange(len(PARTS), dtype=np.uint8), counts)


def _deltas(folder: Path, names: Iterable[str], neutral: FloatArray) -> FloatArray:
    return np.stack([read_vertices(folder / f"{name}.obj") - neutral for name in names])


def convert(folder: Path, identities: int) -> HeadModel:
    """Read the OBJ files of ``FaceXModel``; polygons become fans of triangles.

    Raises:
        LipwrightError: a file is missing.
    """
    neutral = read_vertices(folder / NEUTRAL)
    uv, polygons = read_polygons(folder / NEUTRAL)
    pairs = sorted({corner for polygon in polygons for corner in polygon})
    index = {pair: k for k, pair in enumerate(pairs)}
    corners, parts = [], []
    for polygon, part in zip(polygons, _parts(_LAST_POLYGON), strict=True):
        fan = [index[c] for c in polygon]
        corners += [(fan[0], fan[j], fan[j + 1]) for j in range(1, len(fan) - 1)]
        parts += [part] * (len(fan) - 2)
    names = sorted(p.stem for p in folder.glob("*.obj"))
    expressions = [n for n in names if not n.startswith(("identity", "generic"))]
    return HeadModel(
        neutral=neutral,
        corners=np.array(corners, np.int32),
        triangle_part=np.array(parts, np.uint8),
        position_of=np.array([p for p, _ in pairs], np.int32),
        uv=uv[[t for _, t in pairs]],
        vertex_part=_parts(_LAST_VERTEX),
        part_names=PARTS,
        expression_names=tuple(expressions),
        expressions=_deltas(folder, expressions, neutral),
        identities=_deltas(folder, [f"identity{k:03d}" for k in range(identities)], neutral),
        landmarks=np.array(_LANDMARKS, np.int32),
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="FaceXModel of a checkout of ICT-FaceKit")
    parser.add_argument("out", type=Path)
    parser.add_argument("--identities", type=int, default=20)
    options = parser.parse_args()
    head = convert(options.folder, options.identities)
    head.save(options.out)
    print(f"{options.out}: {len(head.neutral)} vertices, {len(head.expressions)} expressions")


if __name__ == "__main__":
    main()
