"""The command ``lipwright``: flags -> one call, logging, exit codes.

Exit codes: 0 done; 1 a LipwrightError or anything unexpected, told in one line; 2 wrong usage; 130 stopped by Ctrl-C.
Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from lipwright.cli import credentials, installation, judge, make, package, serve, speak
from lipwright.cli.app import app
from lipwright.cli.process import in_words, log_on_stderr, say, stop

__all__ = ["credentials", "installation", "judge", "main", "make", "package", "serve", "speak"]

logger = logging.getLogger(__name__)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command and leave with its exit code; the one place that turns errors into a line and a code.

    Args:
        args: the command line without the program's name; None: that of the process.
    """
    with stop.on_signals(), log_on_stderr():
        try:
            app(args, prog_name="lipwright")
        except Exception as error:
            stop.leave_if_asked()
            logger.debug("the error came from here", exc_info=True)
            say(in_words(error))
        sys.exit(1)
