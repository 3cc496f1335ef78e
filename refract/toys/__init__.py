"""Toy models of superposition: reading what a trained model stores."""
