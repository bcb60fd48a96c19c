"""Statistics of particles: false picks, how large errors are, and what residuals have in common."""
