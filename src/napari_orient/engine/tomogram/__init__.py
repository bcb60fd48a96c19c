"""What is measured of a tomogram before particles are posed: gold, outliers, power, tilts, and what lies outside."""
