"""Training: networks and templates, learnt from tomograms with labelled particles."""
