// The definition in C++: plain loops for problems that are too small for anything else to pay.
#pragma once

#include "problem.h"

namespace backlit {

template <class T>
void small_forward(const Problem& p, const T* x, const T* w, const T* bias, T* y);
template <class T>
void small_grad_input(const Problem& p, const T* w, const T* dy, T* dx);
template <class T>
void small_grad_weight(const Problem& p, const T* x, const T* dy, T* dw);

}  // namespace backlit
