"""The engine: numbers in, numbers out. It knows no Qt, napari, argparse or print."""
