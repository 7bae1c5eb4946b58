"""The speed figures: what Isotach promises, measured against the plain thing in the same run.

Owns: the measurements behind `isotach bench` and `make bench`, their targets and their report. Never: starts an S3
server (an endpoint is given), prints, or imports the test fakes: it works from an installed package.
"""

from isotach.bench.context import BenchContext, S3Access, Sizes
from isotach.bench.result import Report, Row
from isotach.bench.suite import BENCHMARKS, names, run_suite

__all__ = ["BENCHMARKS", "BenchContext", "Report", "Row", "S3Access", "Sizes", "names", "run_suite"]
