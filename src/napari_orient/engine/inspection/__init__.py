"""Inspection: quantities of posed particles, neighbours, filters, comparison with the reference, corrections."""
