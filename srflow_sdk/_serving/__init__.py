"""Where model repositories of earlier versions look for what serves them."""
