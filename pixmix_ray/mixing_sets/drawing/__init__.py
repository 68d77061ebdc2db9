"""How the pictures of a generated set are drawn: in shards, on all cores, once a machine."""
