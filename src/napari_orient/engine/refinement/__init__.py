"""Refinement: poses found and fitted against a reference, and what error the noise leaves."""
