"""The two docks, of which each viewer has one, and what they always show."""
