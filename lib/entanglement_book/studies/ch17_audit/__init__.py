"""Whether an audit's rehearsal comes true."""
