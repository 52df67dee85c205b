"""Avatar packages: everything needed to make one person speak, in a folder ``NAME.avatar/``."""

from lipwright.avatar.consent import Standing, consent_standing, sign_consent
from lipwright.avatar.disclosure import Disclosure
from lipwright.avatar.importers import ImportReport, import_package
from lipwright.avatar.manifest import (
    AlignmentRecord,
    Consent,
    ConsentSeal,
    EncoderBinding,
    Manifest,
    ModelRecord,
    Models,
    Parity,
    Segment,
    Sizes,
    Window,
)
from lipwright.avatar.package import (
    ENCODER,
    ENCODER_WEIGHTS,
    FEATURES,
    GENERATOR,
    LANDMARKS,
    MODEL_FILES,
    RECTS,
    TEMPLATE,
    WEIGHTS,
    Avatar,
    builtin_avatar,
    find_avatar,
)

__all__ = [
    "ENCODER",
    "ENCODER_WEIGHTS",
    "FEATURES",
    "GENERATOR",
    "LANDMARKS",
    "MODEL_FILES",
    "RECTS",
    "TEMPLATE",
    "WEIGHTS",
    "AlignmentRecord",
    "Avatar",
    "Consent",
    "ConsentSeal",
    "Disclosure",
    "EncoderBinding",
    "ImportReport",
    "Manifest",
    "ModelRecord",
    "Models",
    "Parity",
    "Segment",
    "Sizes",
    "Standing",
    "Window",
    "builtin_avatar",
    "consent_standing",
    "find_avatar",
    "import_package",
    "sign_consent",
]
