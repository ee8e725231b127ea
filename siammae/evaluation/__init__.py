"""Evaluation on DAVIS, VIP, JHMDB and BADJA: predictions as files, scores of the files, protocols and metrics."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
