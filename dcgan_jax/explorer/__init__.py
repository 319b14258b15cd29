"""A page on which a trained generator runs in a browser: `folder` writes it, `static/` is what it is made of."""
