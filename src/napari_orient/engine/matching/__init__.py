"""Matching a reference to patches in Fourier space: wedge, noise, turned reference, least squares."""
