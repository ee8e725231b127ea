"""From videos, folders and shards to batches of cropped frames."""
