"""A computed nature film with exact masks and point tracks: koi and turtles over the pebbles of a clear pond."""

from siammae.synthetic.pond import Clip, render_clip

__all__ = ["Clip", "render_clip"]
