"""What scripts/compare is made of: rows of TESTING.md's reliability list, of TCP, UDP and the edge."""
