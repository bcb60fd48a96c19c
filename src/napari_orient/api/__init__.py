"""The public API: verbs that take names, paths or objects, block, and return the answer."""
