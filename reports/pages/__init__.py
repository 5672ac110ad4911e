"""Pages: each file offers `build(tables) -> Report`; its name on the command line is the file's stem."""
