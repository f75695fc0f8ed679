"""Extensions of Sphinx for the site; what they show stands in the Markdown pages."""
