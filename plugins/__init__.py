"""The reference plugins, loaded through the same door as anybody's."""
