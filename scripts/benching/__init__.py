"""What scripts/bench is made of: the machine, the balancers, the loads, the tables."""
