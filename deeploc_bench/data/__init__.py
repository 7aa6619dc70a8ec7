"""Generator datasets: read, checked, packed and dealt out in batches."""
