"""Prediction with either kind of model, what another molecule would say, and a reference that its particles correct."""
