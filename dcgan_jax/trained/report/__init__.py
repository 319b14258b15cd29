"""A page for a run: one HTML file that needs nothing else, of one run or of several that are compared."""
