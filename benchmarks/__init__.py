"""What sot_graph gives and costs, beside what anybody would write by hand: `make bench`, `make bench-quick`."""
