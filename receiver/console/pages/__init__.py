"""The pages, one module for each subject. `receiver.console.contents` lists them."""
