"""The machinery of the book: execution, staging, building, checking, and the ledger of claims.

Nothing here is science. A chapter imports only ``entanglement.book.claims``; everything else is called by
``make``. A change in this package re-runs no chapter (see ``entanglement.book.sources``).
"""
