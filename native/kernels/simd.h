// The vector vocabulary of the kernels, on the vector extensions of GCC and Clang.
//
// Everything here is static, so that every instruction set has its own copy, and nothing includes the standard library,
// whose inline templates would be compiled for the wider instructions and shared with the rest of the program.
#pragma once

#include <stdint.h>

#define BACKLIT_INLINE static inline __attribute__((always_inline))
#define BACKLIT_INLINE_MEMBER inline __attribute__((always_inline))

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

// The signed integer as wide as a T: what comparisons of vectors of T give, and what counts beside them.
template <class T>
struct IntegerOf;
template <>
struct IntegerOf<float> {
    typedef int32_t type;
};
template <>
struct IntegerOf<double> {
    typedef int64_t type;
};
template <class T>
using Integer = typename IntegerOf<T>::type;

template <int bytes>
struct UnsignedOf;
template <>
struct UnsignedOf<2> {
    typedef uint16_t type;
};
template <>
struct UnsignedOf<4> {
    typedef uint32_t type;
};

// Integers of another width, the low bits of those that do not fit. Twice or half as wide at a time: GCC converts
// vectors lane by lane where the step is longer.
template <class To, class From, int lanes>
BACKLIT_INLINE Vector<To, lanes> convert(Vector<From, lanes> value) {
    if constexpr (sizeof(To) > 2 * sizeof(From)) {
        using Between = typename UnsignedOf<2 * sizeof(From)>::type;
        return convert<To, Between, lanes>(__builtin_convertvector(value, Vector<Between, lanes>));
    } else if constexpr (sizeof(From) > 2 * sizeof(To)) {
        using Between = typename UnsignedOf<sizeof(From) / 2>::type;
        return convert<To, Between, lanes>(__builtin_convertvector(value, Vector<Between, lanes>));
    } else {
        return __builtin_convertvector(value, Vector<To, lanes>);
    }
}

// Count<n>::type is Indices<0, 1, ..., n - 1>.
template <int... i>
struct Indices {};
template <int n, int... i>
struct Count : Count<n - 1, n - 1, i...> {};
template <int... i>
struct Count<0, i...> {
    using type = Indices<i...>;
};

template <class T, int lanes, int... i>
BACKLIT_INLINE Vector<T, lanes> every_second(Vector<T, lanes> low, Vector<T, lanes> high, bool odd, Indices<i...>) {
    return odd ? __builtin_shufflevector(low, high, 2 * i + 1 ...) : __builtin_shufflevector(low, high, 2 * i...);
}

// low[0], high[0], low[1], high[1], ...: the first half, or the last.
template <class T, int lanes, int... i>
BACKLIT_INLINE Vector<T, lanes> zip(Vector<T, lanes> low, Vector<T, lanes> high, bool last, Indices<i...>) {
    return last ? __builtin_shufflevector(low, high, (lanes + i) / 2 + i % 2 * lanes...)
                : __builtin_shufflevector(low, high, i / 2 + i % 2 * lanes...);
}

}  // namespace
}  // namespace backlit
