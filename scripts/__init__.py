"""The commands of this project. Installed, the package is called `ifaformer_commands`."""
