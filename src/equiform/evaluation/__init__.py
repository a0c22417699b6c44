"""Measuring a model over the orbit of its data."""
