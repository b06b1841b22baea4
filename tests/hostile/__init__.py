"""Hostile and slow peers: who they are, how they are made, and who is served meanwhile."""
