"""Tomograms with particles of exact poses, simulated as PolNet does."""
