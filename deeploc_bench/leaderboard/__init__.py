"""A claim that anybody can recompute: submissions, their verification, ranks and the page. Torch-free."""
