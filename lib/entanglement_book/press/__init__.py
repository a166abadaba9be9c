"""From notebooks to pages: execute, stage, build, check the site."""
