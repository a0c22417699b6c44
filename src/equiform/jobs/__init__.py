"""Work on folders and tables of any size: planned, done in worker processes, journaled, never lost or doubled."""
