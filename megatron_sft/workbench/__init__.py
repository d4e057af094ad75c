"""What runs the project as a whole: setting up its environment, every check, and the quickstart."""
