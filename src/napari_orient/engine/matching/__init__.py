"""Template matching: the search for poses by matched filters, and their fit by Gauss–Newton steps."""
