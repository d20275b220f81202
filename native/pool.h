// Max and average pools over windows, forward and backward.
//
// A pool is a Problem with as many filters and groups as channels, whose output sizes are given: windows may hang over.
#pragma once

#include "kernels/table.h"
#include "problem.h"

namespace backlit {

// y = the largest of what each window reads: NaN above all, the first of equals. winners = the row-major number of its
// tap, or the number of taps where the window reads nothing and y is -inf. W: uint8_t to uint64_t; holds taps().
template <class T, class W>
void max_pool_forward(const Problem& p, const Kernels<T>& kernels, const T* x, T* y, W* winners, int threads);
// dx = sum of dy over the windows that each input won.
template <class T, class W>
void max_pool_backward(const Problem& p, const Kernels<T>& kernels, const T* dy, const W* winners, T* dx, int threads);

// y = sum of what each window reads / its divisor. divisors: (outputs(),)
template <class T>
void avg_pool_forward(const Problem& p, const Kernels<T>& kernels, const T* x, const double* divisors, T* y,
                      int threads);
// dx = sum of dy / divisor over the windows that read each input.
template <class T>
void avg_pool_backward(const Problem& p, const Kernels<T>& kernels, const T* dy, const double* divisors, T* dx,
                       int threads);

}  // namespace backlit
