"""The small model that demo and stories serve: made once from train.py and corpus.txt, kept in a claim."""
