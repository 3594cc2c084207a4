"""What scripts/compare is made of: rows of TESTING.md's reliability list, TCP's and UDP's."""
