"""The engines that compute convolutions and pools, and the choice among them."""
