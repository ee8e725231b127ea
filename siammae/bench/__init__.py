"""Benchmark: speed and memory of label propagation on this machine, beside the operations of published scripts."""

from siammae.bench.measure import Case, matmul_rate, measure_frame, measure_operation, run

__all__ = ["Case", "matmul_rate", "measure_frame", "measure_operation", "run"]
