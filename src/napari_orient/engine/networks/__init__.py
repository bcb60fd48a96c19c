"""Networks: patches in, rotations out."""
