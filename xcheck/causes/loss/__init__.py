"""Causes of a loss that differs though the outputs agree."""
