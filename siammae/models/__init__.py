"""From names to encoders and back: the registry, model folders, the Hub, other people's checkpoints, other runtimes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
