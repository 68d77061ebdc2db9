"""Running experiments: the loop, and the executors that do its work. The only room that imports ray."""
