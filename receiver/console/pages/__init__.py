"""The pages, a module for each thing that they show; `receiver.console.contents` lists them."""
