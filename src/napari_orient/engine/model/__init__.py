"""The forward model of one tomogram: what a reference, rotated and shifted, looks like in it."""
