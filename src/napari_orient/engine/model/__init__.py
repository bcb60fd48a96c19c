"""Forward model of one tomogram: the image of a reference, rotated and shifted, in it."""
