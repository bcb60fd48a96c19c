"""Subtomogram averaging."""
