"""Class names in the order of the class ids."""
