"""How the suite `photos` was made: photographs, masks and four generators, two of them networks that are trained here.

Nothing of it is installed with the plugin, which reads the finished sheets alone. README.md has the commands.
"""
