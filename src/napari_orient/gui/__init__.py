"""The docks, readers, writers and sample data that napari calls through the manifest."""
