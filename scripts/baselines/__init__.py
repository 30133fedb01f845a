"""Baselines that any network has to beat: trees and a perceptron on counts, on times and on similarity."""
