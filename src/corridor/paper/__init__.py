"""The experiments of the paper: recipes, figures and report. No other package imports this."""
