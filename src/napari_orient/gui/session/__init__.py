"""State of one viewer beside its layers, by composition: model in use, what is inspected, edits, failures on view."""
