"""Networks: patches in, rotations out; and the checkpoint, one file that holds one."""
