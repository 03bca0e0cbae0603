"""Chains saved between steps, and resumed."""
