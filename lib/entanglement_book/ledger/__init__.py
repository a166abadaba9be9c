"""The ledger: claims, the language of their rules, records and verdicts."""
