"""The contestants, each a program that serves `benchmarks.dp.protocol` from its own environment."""
