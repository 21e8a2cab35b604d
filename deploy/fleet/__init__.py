"""The fleet: one run on many hosts in two phases, and what became of each host. Prints nothing."""
