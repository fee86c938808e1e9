"""The paper's experiments: recipes, figures and the report. The rest of the library needs none."""
