"""Reports that a person reads and prints: pages of HTML on the poses of a list and on a training, and their figures."""
