"""The pairs: every differentiable operation as op_forward -> (out, cache) and op_backward(dout, cache) -> gradients."""

from backlit.ops.conv import conv_backward, conv_forward, conv_transpose_backward, conv_transpose_forward
from backlit.ops.pool import (
    adaptive_avg_pool_backward,
    adaptive_avg_pool_forward,
    avg_pool_backward,
    avg_pool_forward,
    global_avg_pool_backward,
    global_avg_pool_forward,
    max_pool_backward,
    max_pool_forward,
)
