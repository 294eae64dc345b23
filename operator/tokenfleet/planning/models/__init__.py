"""What config.json and the names of tensors say about a model, part by part; `model_facts` puts the parts together."""
