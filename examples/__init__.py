"""Searching networks that people bring, under a budget."""
