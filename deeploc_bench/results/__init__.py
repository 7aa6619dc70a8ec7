"""What finished trainings say: cells, tables, figures and the report of a runs folder. Torch-free."""
