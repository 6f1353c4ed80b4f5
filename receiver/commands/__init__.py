"""The commands of `hookmirror`, one module each."""
