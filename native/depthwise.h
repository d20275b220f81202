// Convolutions with one filter a channel: no products of matrices, so each number is touched once.
#pragma once

#include "kernels/table.h"
#include "problem.h"

namespace backlit {

// Whether every channel has its own filter.
bool depthwise_serves(const Problem& problem);

// bias may be null. Results are overwritten, all of them.
template <class T>
void depthwise_forward(const Problem& p, const Kernels<T>& kernels, const T* x, const T* w, const T* bias, T* y,
                       int threads);
template <class T>
void depthwise_grad_input(const Problem& p, const Kernels<T>& kernels, const T* w, const T* dy, T* dx, int threads);
template <class T>
void depthwise_grad_weight(const Problem& p, const Kernels<T>& kernels, const T* x, const T* dy, T* dw, int threads);

}  // namespace backlit
