"""How fast an avatar is on this machine, measured so that every claim is a ratio to a baseline of the same run."""

from lipwright.bench.growth import GROWTH, Growth
from lipwright.bench.report import Bench, Table, as_data, markdown, tables, write_bench
from lipwright.bench.walk import Plan, bench

__all__ = ["GROWTH", "Bench", "Growth", "Plan", "Table", "as_data", "bench", "markdown", "tables", "write_bench"]
