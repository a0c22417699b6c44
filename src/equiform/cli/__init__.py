"""The `equiform` command."""
