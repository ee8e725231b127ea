"""The browser app of `siammae app`: a page to label a video."""
