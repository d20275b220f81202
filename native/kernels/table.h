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

constexpr int most_shapes = 5;

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
};

// Neighbouring pixels of channels-last arrays that read alike: pixel p reads, at row r and column t of its window, the
// pixel row_at[r] + column_at[t] + p*in_step, counted from a base, as tap row_tap[r] + column_tap[t]; p's own place is
// p*out_step. Everything is in pixels, of `channels` numbers each. The next row of pixels reads in_next further and is
// written out_next further: no more than a hint.
struct Window {
    int64_t channels, pixels, in_step, out_step;
    int64_t rows, columns;
    const int64_t *row_at, *row_tap;        // (rows,)
    const int64_t *column_at, *column_tap;  // (columns,)
    int64_t low, high;                      // columns, counted like column_at, that exist: from low to below high
    int64_t in_next, out_next;
};

// Sums over a rectangle of channels-last arrays, channel by channel:
//
//     sums[sum_at[t]] += sum over q, p of x[x_at[t] + q*x_row + p*x_step] * y[q*y_row + p]
//
// for q below `rows` and p below `pixels`. Everything is in pixels. joined: taps come in threes of neighbouring
// columns, x_step is 1 or 2, and columns outside of low to high, counted from x, do not exist in the row of a three's
// first tap and are left out.
template <class T>
struct TapSums {
    const T *x, *y;
    T* sums;
    int64_t channels, rows, pixels, x_row, x_step, y_row, taps;
    const int64_t *x_at, *sum_at;  // (taps,)
    bool joined;
    int64_t first, low, high;  // first: the column of the first of three taps
};

// Positions of channels-first arrays, copied to where each reads at the same distances: i reads in[offset[t] + i].
// `count` is a multiple of the lanes.
template <class T>
struct Flat {
    const T* in;
    int64_t count, taps;
    const int64_t* offset;  // (taps,)
    const int64_t* tap;     // (taps,): which tap of the window each is
};

// Whether the kernel for depthwise windows of so many neighbouring columns takes pixels whose windows hang over.
constexpr bool depthwise_joins(int64_t columns, int64_t in_step) {
    return (columns == 3 && (in_step == 1 || in_step == 2)) || (columns == 5 && in_step == 1);
}

constexpr int winner_types = 3;  // uint8, uint16 and uint32, in this order

template <class T>
struct Kernels {
    int lanes;   // of the widest vector
    int shapes;  // how many there are, the narrowest first
    int tall;    // the shape of two vectors, whose tiles have the most rows for their width
    TileShape<T> shape[most_shapes];
    // to[i, j] = from[i, j] for i below `rows` and j below `columns`.
    void (*copy)(const T* from, int64_t from_row, int64_t rows, int64_t columns, T* to, int64_t to_row);
    // to[j, i] (+)= from[i, j] for i below `rows` and j below `columns`.
    void (*transpose)(const T* from, int64_t from_row, int64_t rows, int64_t columns, T* to, int64_t to_row, bool add);
    WinogradKernels<T> winograd;  // float only

    // Depthwise. out = init + sum over the window of in * weight[tap]; weights are (taps, channels), init may be null.
    // Columns that do not exist are left out where depthwise_joins(columns, in_step); else all must exist.
    void (*depthwise_window)(const Window&, const T* in, const T* weight, const T* init, T* out);
    void (*depthwise_sums)(const TapSums<T>&);
    // out[i] = init + sum over t of in[offset[t] + i] * weight[t].
    void (*depthwise_flat)(const Flat<T>&, const T* weight, T init, T* out);
    // sums[t*lanes + i % lanes] += in[offset[t] + i] * y[i].
    void (*depthwise_flat_sums)(const Flat<T>&, const T* y, T* sums);

    // Pools, by the type of the winners. A winner is the tap of the largest (NaN above all, the first of equals), or
    // `none` where the window reads nothing.
    void (*max_window[winner_types])(const Window&, const T* in, T* out, void* winners, int64_t none);
    // out = sum over the window of in where its winner is the tap.
    void (*won_window[winner_types])(const Window&, const T* in, const void* winners, T* out);
    // As max_window, but -inf never wins. Whether there is an i without a winner.
    bool (*max_flat[winner_types])(const Flat<T>&, T* out, void* winners, int64_t none);
    void (*won_flat[winner_types])(const Flat<T>&, const void* winners, T* out);
    // out = sum over the window of in, over divisors[p * divisor_step] of each pixel of out.
    void (*sum_window)(const Window&, const T* in, const T* divisors, int64_t divisor_step, T* out);
    // out = sum over the window of in / its pixel's divisor.
    void (*share_window)(const Window&, const T* in, const T* divisors, T* out);
    void (*sum_flat)(const Flat<T>&, T* out);
    // values[i] /= divisors[i], for any count.
    void (*divide)(int64_t count, const T* divisors, T* values);

    // Rows of channels-first arrays: every second number into two rows of `count`, and back.
    void (*split)(int64_t count, const T* from, T* even, T* odd);
    void (*merge)(int64_t count, const T* even, const T* odd, T* to);
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
