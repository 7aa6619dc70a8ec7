"""What Python code may call: each function returns the values that the command of its name prints."""
