"""The parts of scripts/crash-test: real clients, faults under a real broker, and the checker."""
