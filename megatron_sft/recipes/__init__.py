"""Configuration of a run: YAML recipes, options on top of them, where every value came from, and the paper's runs."""
