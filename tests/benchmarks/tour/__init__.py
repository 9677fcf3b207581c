"""A tour of the dock with a real mouse: where it draws, and how it presses."""
