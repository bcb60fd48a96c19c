"""Widgets that pages are made of: columns, notes, fields, choices of layers, rows for files and for a running job."""
