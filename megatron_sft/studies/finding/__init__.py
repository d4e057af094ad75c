"""From evaluations, or published numbers, to what a study found."""
