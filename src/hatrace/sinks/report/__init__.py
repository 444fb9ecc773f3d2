"""Reports: what a capture shows, decided once (`build`) and printed as text, Markdown or JSON."""
