"""Images: reading files, and the views that canonicalizers look at."""
