"""backlit: convolutional backpropagation you can see through."""
