"""Published figures, submissions, and the reports that are made of them and of results."""
