"""`scripts/bench`: what hatrace costs a host beside what its peers cost, on the same work."""
