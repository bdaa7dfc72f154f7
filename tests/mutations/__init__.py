"""Mutations of the tree that have to turn the tests red."""
