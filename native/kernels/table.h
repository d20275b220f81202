// What the drivers see of the kernels: plain structs and tables of function pointers, one table for every ISA.
#pragma once

#include <stdint.h>

namespace backlit {

// A micro-tile of a product of matrices whose sum runs over `segments` of `steps` each:
//
//     c[m, v] (+)= init[v] + sum over s, r of a[a_offset[s] + m*a_row + r*a_step] * b[b_offset[s] + r*b_step + v]
//
// m runs over the tile's rows, v over the columns of its shape, s over the segments, r over the steps. Everything is in
// elements. All of the columns are read from b and init and written to c: packed panels end in zeros.
template <class T>
struct Tile {
    const T* a;
    const T* b;
    T* c;
    int64_t a_row, a_step;  // one of them is 1 in the kernels of each order
    int64_t b_step, c_row;
    int64_t segments, steps;
    const int64_t* a_offset;  // (segments,)
    const int64_t* b_offset;  // (segments,)
    const T* init;            // (columns,)
    bool accumulate;          // add to c
};

template <class T>
using TileKernel = void (*)(const Tile<T>&);

constexpr int most_rows = 14;

// The kernels of one width, by their number of rows.
template <class T>
struct TileShape {
    int columns;                          // lanes times vectors
    int rows;                             // the most that one kernel has, at most most_rows
    TileKernel<T> along[most_rows + 1];   // a_step is 1: the steps are contiguous, the rows are anywhere
    TileKernel<T> across[most_rows + 1];  // a_row is 1: the rows are contiguous, the steps are anywhere
};

constexpr int most_shapes = 4;

template <class T>
struct Kernels {
    int lanes;   // of the widest vector
    int shapes;  // how many there are, the narrowest first
    TileShape<T> shape[most_shapes];
};

struct Isa {
    const char* name;
    Kernels<float> f32;
    Kernels<double> f64;
};

template <class T>
const Kernels<T>& kernels_of(const Isa& isa);
template <>
inline const Kernels<float>& kernels_of(const Isa& isa) {
    return isa.f32;
}
template <>
inline const Kernels<double>& kernels_of(const Isa& isa) {
    return isa.f64;
}

extern const Isa isa_baseline;
#if defined(__x86_64__)
extern const Isa isa_avx2;
extern const Isa isa_avx512;
#endif

}  // namespace backlit
