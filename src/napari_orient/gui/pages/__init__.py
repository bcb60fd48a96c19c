"""Pages of the Orient dock, and the cards on them; pages never import each other."""
