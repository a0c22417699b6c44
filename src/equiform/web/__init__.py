"""A page to play with: turn a photo, and see what a model says of it, bare and adapted."""
