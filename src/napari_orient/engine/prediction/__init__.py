"""Prediction: the rotation of every particle of a tomogram."""
