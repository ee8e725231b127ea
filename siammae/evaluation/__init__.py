"""Predict the labels of a data set as files, then score the files: DAVIS, VIP, JHMDB, BADJA, their protocols and metrics."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
