"""One call of a predictor as a batch: bound to its kinds, taken apart by rows, put together again."""
