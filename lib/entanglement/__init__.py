"""Gradient entanglement in preference optimisation: measure it, predict it, and see it happen.

The rooms, each importing only from those before it: pairs, datasets, models, logps, losses, geometry,
gradients, loglinear, training, results, plotting; and ``entanglement_book``, the machinery of the book.
"""

__version__ = "0.1.0"
