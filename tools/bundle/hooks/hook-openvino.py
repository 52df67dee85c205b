"""How PyInstaller collects OpenVINO: the processor's part, and as files of their own, to be taken out again."""

from importlib.util import find_spec
from pathlib import Path

#: Opened by name when they are wanted, so nothing is linked to them: the plugin that runs networks on the processor,
#: what reads ONNX, and what tells TBB of the processor's nodes. The plugins for other devices, the readers of other
#: formats and the C interface stay away.
_OPENED = ("libopenvino_intel_cpu_plugin.so", "libopenvino_onnx_frontend.so*", "libtbbbind*.so*", "libhwloc.so*")

_spec = find_spec("openvino")
_places = _spec.submodule_search_locations if _spec is not None else None
_libraries = [path for place in _places or () for name in _OPENED for path in Path(place, "libs").glob(name)]
binaries = [(str(path), "openvino/libs") for path in _libraries]
module_collection_mode = "pyc"
