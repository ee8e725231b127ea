"""Models: names to encoders and back, by the registry, model folders, the Hub, checkpoints and other runtimes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
