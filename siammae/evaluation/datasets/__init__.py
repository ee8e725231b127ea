"""Data sets: how their sequences are found, and predictions for them scored."""
