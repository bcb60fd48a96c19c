"""Tomograms with known particles, simulated as PolNet does."""
