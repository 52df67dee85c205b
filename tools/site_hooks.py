"""What mkdocs asks us while it builds the site: no page may fetch anything from elsewhere."""

from __future__ import annotations

import logging
import re
from typing import Any

# mkdocs counts warnings of its own loggers only, and --strict stops at the first.
logger = logging.getLogger("mkdocs.hooks.lipwright")

#: A script, style, font or picture with an address of its own; a link that a reader follows is not fetched.
FETCHED = re.compile(
    r"<(?:script|img|iframe|link(?! rel=\"canonical\"))\b[^>]*\b(?:src|href)=\"?((?:https?:)?//[^\"\s>]+)"
)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Warn of everything that a finished page would fetch from another machine."""
    for address in FETCHED.findall(output):
        logger.warning("%s fetches %s", page.file.src_uri, address)
    return output
