"""Inspection of posed particles: quantities and neighbours, filters, comparison with a reference, corrections."""
