"""What is made of finished trainings: published numbers beside them, figures. Imports no torch."""
