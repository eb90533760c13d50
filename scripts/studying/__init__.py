"""The study of docs/study.md: trains, measures, compares, draws and writes the page."""
