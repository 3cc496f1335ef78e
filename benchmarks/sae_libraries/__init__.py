"""What ``benchmarks.sae_training`` needs: a runner for each library, their environments, the data, the tables."""
