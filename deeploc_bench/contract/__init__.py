"""What a plugin and the harness agree on: specs, hooks, how plugins are found, errors."""
