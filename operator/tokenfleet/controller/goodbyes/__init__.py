"""How engine pods go, and how many are to be there until they have gone."""
