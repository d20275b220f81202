// The vector vocabulary of the kernels, on the vector extensions of GCC and Clang.
//
// Everything here is static, so that every instruction set has its own copy, and nothing includes the standard library,
// whose inline templates would be compiled for the wider instructions and shared with the rest of the program.
#pragma once

#include <stdint.h>

#define BACKLIT_INLINE static inline __attribute__((always_inline))

namespace backlit {
namespace {

// `lanes` numbers of type T in one register, loaded from and stored to any address of a T.
template <class T, int lanes>
struct VectorOf {
    typedef T type __attribute__((vector_size(lanes * sizeof(T))));
    typedef T at_any_address __attribute__((vector_size(lanes * sizeof(T)), aligned(alignof(T)), may_alias));
};

template <class T, int lanes>
using Vector = typename VectorOf<T, lanes>::type;

template <class T, int lanes>
BACKLIT_INLINE Vector<T, lanes> load(const T* from) {
    return *reinterpret_cast<const typename VectorOf<T, lanes>::at_any_address*>(from);
}

template <class T, int lanes>
BACKLIT_INLINE void store(T* to, Vector<T, lanes> value) {
    *reinterpret_cast<typename VectorOf<T, lanes>::at_any_address*>(to) = value;
}

template <class T, int lanes>
BACKLIT_INLINE Vector<T, lanes> zero() {
    return Vector<T, lanes>{};
}

template <class T, int lanes>
BACKLIT_INLINE Vector<T, lanes> splat(T value) {
    return value - Vector<T, lanes>{};  // x - 0 is x for every x, and compilers know it
}

}  // namespace
}  // namespace backlit
