"""AIOS on many machines: the node contract (`node`), and Apache Spark as an engine above it."""
