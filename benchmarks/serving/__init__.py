"""How fast a model server answers, beside the floor and its peers, all in one run."""
