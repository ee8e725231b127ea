"""Siamese masked autoencoder features for video correspondence, and labels carried from one frame through a whole video."""

import lazy_loader

__version__ = "0.1.0.dev0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # the names stand in __init__.pyi
