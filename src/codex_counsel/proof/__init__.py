"""A test that shows the failure that a finding is about, run by us."""
