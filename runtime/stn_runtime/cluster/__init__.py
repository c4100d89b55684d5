"""Classifying more pictures than one machine should: with Ray Data, on one machine or many."""
