"""The book: its materials, studies, figures and grids, its ledger and its press."""
