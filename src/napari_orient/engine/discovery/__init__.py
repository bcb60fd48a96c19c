"""Discovery: structure and poses from picks alone, with no labels and no template, and a verdict on them."""
