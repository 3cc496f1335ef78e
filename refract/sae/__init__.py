"""Sparse autoencoders on real models: activations, architectures, training, evaluation, exchange with SAELens."""
