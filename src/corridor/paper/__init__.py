"""Run the experiments of the paper: recipes, figures and report."""
