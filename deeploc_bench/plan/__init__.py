"""What is to be done: recipes, protocols, unique trainings, and where their artifacts lie. Torch-free."""
