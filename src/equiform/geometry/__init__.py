"""Groups, kinds of data, and how each kind moves under a group."""
