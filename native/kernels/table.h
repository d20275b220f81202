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

// Tiles in the longest strip: their 58 columns and the transforms of these stay in the first cache.
constexpr int winograd_strip = 14;

// A strip of Winograd tiles, one beside the other, one vector of channels of it: from an image to the 36 points of
// every tile. What lies outside of the image is zero. One of column and channel is 1. Everything is in elements.
template <class T>
struct WinogradStrip {
    const T* image;  // row 0, column 0, first of the channels
    const T* end;    // of the array that the image is in: nothing from there on is read
    int64_t row, column, channel;
    int64_t height, width;    // of the image
    int64_t top, left;        // of the strip, possibly outside of the image
    int64_t tiles, channels;  // channels from this one on that the image has
    T* result;                // result[tile * result_tile + point * result_point + channel], whole vectors
    int64_t result_tile, result_point;
};

// The way back: from the 36 points of every tile to the four by four values of each, cropped to the image.
template <class T>
struct WinogradResult {
    const T* points;  // points[t * tile + p * point + channel], whole vectors
    int64_t tile, point;
    const T* bias;  // (lanes,)
    T* image;
    int64_t row, column, channel;
    int64_t height, width;
    int64_t top, left;  // of the strip, inside of the image
    int64_t tiles, channels;
};

// From sums over tiles to the gradient of the weights: result[c * row + t * tap + k] (+)= tap t of row c, column k.
template <class T>
struct WinogradGradient {
    const T* points;  // points[p * point + c * width + k], whole vectors
    int64_t point, width;
    int64_t rows, columns;
    T* result;
    int64_t row, tap;
    bool add;
};

template <class T>
struct WinogradKernels {
    void (*data)(const WinogradStrip<T>&);      // six by six values of every tile
    void (*gradient)(const WinogradStrip<T>&);  // four by four values of every tile, as the filter of F(3x3, 4x4)
    void (*result)(const WinogradResult<T>&);
    // Weights (steps, 9, width), width a multiple of lanes, to (36, steps, width) with the points `point` apart.
    void (*filters)(const T* weights, int64_t steps, int64_t width, bool flipped, T* result, int64_t point);
    void (*weights)(const WinogradGradient<T>&);
    // to[j, i] (+)= from[i, j] for i below `rows` and j below `columns`.
    void (*transpose)(const T* from, int64_t from_row, int64_t rows, int64_t columns, T* to, int64_t to_row, bool add);
};

template <class T>
struct Kernels {
    int lanes;   // of the widest vector
    int shapes;  // how many there are, the narrowest first
    TileShape<T> shape[most_shapes];
    WinogradKernels<T> winograd;  // float only
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
