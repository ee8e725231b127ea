"""A page in the browser to label a video: `siammae app`."""
