"""Pretraining of Siamese masked autoencoders on unlabelled video. Needs the extra `train`.

`load_config` reads a run's configuration, `train` runs it, `export` writes its result as a model folder.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
