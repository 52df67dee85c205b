"""The proof that an avatar does what it should, everywhere: contract, parity, pictures, checkpoints, vectors.

``check`` looks at an avatar, ``check_against`` at another implementation; ``write_report`` writes what they found.
"""

from lipwright.check.report import Report, as_data, write_report
from lipwright.check.vectors import write_vectors
from lipwright.check.walk import Plan, check, check_against

__all__ = ["Plan", "Report", "as_data", "check", "check_against", "write_report", "write_vectors"]
