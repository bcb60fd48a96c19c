"""Projects: many tomograms worked on in one run, here or on a cluster, and what is done not done again.

``inputs`` resolves folders, globs, lists and projects of other programs to tomograms with their particles.
``each_tomogram`` does a task for every one of them, in this process or by ``distribution`` through Dask, whose clusters
``clusters`` starts. ``stored_results`` keeps the particles of each tomogram under the digest of all that they depend on
(``content``), and a table of how each stands; ``plan`` says what would be done.
"""
