"""Every error lipwright raises on purpose.

A message names the thing that is wrong and, where there is one, the remedy: it is shown to the user as it is,
on one line and without a traceback.
"""


class LipwrightError(Exception):
    """Base of all errors a user can cause or mend."""


class MediaError(LipwrightError):
    """A sound or video file cannot be read or written."""


class AvatarError(LipwrightError):
    """An avatar package is incomplete, damaged or contradicts itself."""


class ContractError(LipwrightError):
    """An array or a network breaks the UNet-328 contract (shape, dtype, range, colour order)."""


class CredentialsError(LipwrightError):
    """Content Credentials cannot be made: a key, a certificate or the library that signs is not fit."""


class RuntimeUnavailableError(LipwrightError):
    """A runtime, provider or precision that was asked for is not there or not really active."""


class MissingExtraError(LipwrightError):
    """An optional dependency is not installed."""

    def __init__(self, module: str, extra: str) -> None:
        super().__init__(f"{module} is not installed: pip install 'lipwright[{extra}]'")
