"""ReLU and dropout in one pass, remembering nothing but the result."""
