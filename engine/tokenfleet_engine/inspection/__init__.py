"""What a model is, read from its config.json and the headers of its weights, wherever they are: no weight is read."""
