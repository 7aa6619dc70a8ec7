"""From protocols and recipes to trainings, tests and their artifacts."""
