"""What a model costs: parameters and multiply-adds, counted without weights."""
