"""Pretraining of Siamese masked autoencoders on unlabelled video. Needs the extra `train`.

`config.load_config` reads a run's configuration, `loop.train` runs it, `export.export` makes a model folder of its result.
"""
