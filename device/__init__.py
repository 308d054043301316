"""A camera of the link: takes a view, weighs its patches by attention, sends what matters."""
