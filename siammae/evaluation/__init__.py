"""Scores of propagated labels against ground truth."""
