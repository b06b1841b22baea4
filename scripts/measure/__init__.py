"""What the comparisons share: the machine, clients, floors, loads, rounds, tables and the page."""
