// Direct arithmetic for every configuration: products of packed weights with what each position gathers, no im2col.
#pragma once

#include "kernels/table.h"
#include "problem.h"

namespace backlit {

template <class T>
void direct_forward(const Problem& p, const Kernels<T>& kernels, const T* x, const T* w, const T* bias, T* y,
                    int threads);
template <class T>
void direct_grad_input(const Problem& p, const Kernels<T>& kernels, const T* w, const T* dy, T* dx, int threads);
template <class T>
void direct_grad_weight(const Problem& p, const Kernels<T>& kernels, const T* x, const T* dy, T* dw, int threads);

}  // namespace backlit
