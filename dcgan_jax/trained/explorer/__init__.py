"""A page on which a trained generator runs in a browser: `folder` writes it from the files in `static/`."""
