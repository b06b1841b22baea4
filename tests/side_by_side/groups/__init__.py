"""Scripted requests of the group APIs, whose answers are compared between two brokers."""
