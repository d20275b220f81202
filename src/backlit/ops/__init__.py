"""The pairs: every differentiable operation as op_forward -> (out, cache) and op_backward(dout, cache) -> gradients."""

from backlit.ops.activations import (
    relu_backward,
    relu_forward,
    sigmoid_backward,
    sigmoid_forward,
    tanh_backward,
    tanh_forward,
)
from backlit.ops.adaptive_pool import (
    adaptive_avg_pool_backward,
    adaptive_avg_pool_forward,
    global_avg_pool_backward,
    global_avg_pool_forward,
)
from backlit.ops.conv import (
    conv_backward,
    conv_forward,
    conv_transpose_backward,
    conv_transpose_forward,
)
from backlit.ops.dropout import (
    dropout_backward,
    dropout_forward,
)
from backlit.ops.linear import (
    linear_backward,
    linear_forward,
)
from backlit.ops.losses import (
    cross_entropy_backward,
    cross_entropy_forward,
    mse_backward,
    mse_forward,
)
from backlit.ops.norms import (
    batch_norm_backward,
    batch_norm_forward,
)
from backlit.ops.pool import (
    avg_pool_backward,
    avg_pool_forward,
    max_pool_backward,
    max_pool_forward,
)
from backlit.ops.shapes import (
    add_backward,
    add_forward,
    flatten_backward,
    flatten_forward,
)
from backlit.ops.softmax import (
    log_softmax_backward,
    log_softmax_forward,
    softmax_backward,
    softmax_forward,
)

__all__ = [
    "adaptive_avg_pool_backward",
    "adaptive_avg_pool_forward",
    "add_backward",
    "add_forward",
    "avg_pool_backward",
    "avg_pool_forward",
    "batch_norm_backward",
    "batch_norm_forward",
    "conv_backward",
    "conv_forward",
    "conv_transpose_backward",
    "conv_transpose_forward",
    "cross_entropy_backward",
    "cross_entropy_forward",
    "dropout_backward",
    "dropout_forward",
    "flatten_backward",
    "flatten_forward",
    "global_avg_pool_backward",
    "global_avg_pool_forward",
    "linear_backward",
    "linear_forward",
    "log_softmax_backward",
    "log_softmax_forward",
    "max_pool_backward",
    "max_pool_forward",
    "mse_backward",
    "mse_forward",
    "relu_backward",
    "relu_forward",
    "sigmoid_backward",
    "sigmoid_forward",
    "softmax_backward",
    "softmax_forward",
    "tanh_backward",
    "tanh_forward",
]
