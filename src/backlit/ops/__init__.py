"""The pairs: every differentiable operation as op_forward -> (out, cache) and op_backward(dout, cache) -> gradients."""
