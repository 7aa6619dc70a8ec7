"""Counts first, scores second. numpy only."""
