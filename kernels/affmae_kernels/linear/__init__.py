"""Linear layers and the two-layer perceptron with backward passes that move little memory and keep little of it."""
