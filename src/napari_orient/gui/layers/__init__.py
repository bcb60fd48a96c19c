"""Layers of a viewer: what they hold, their rows, and the arrows and surfaces drawn of them."""
