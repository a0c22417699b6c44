"""Fitting canonicalizers."""
