"""Volumes in files: one module for each format; ``formats`` chooses between them."""
