"""Figures of the course: one style, and the drawings that several sections share."""
