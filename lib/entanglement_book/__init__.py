"""The book: its materials, one folder of studies a chapter, drawing, grids, benchmarks, ledger and press.

``entanglement`` is the science and knows nothing of this package.
"""
