"""`xcheck convert`: a checkpoint through the proven match of a pair, in either direction."""
