"""`scripts/scoreboard`: every leak of the lab named, every look-alike left alone, counted."""
