// Channels in panels as wide as a micro-tile, and copies of matrices between layouts.
#pragma once

#include <cstdint>
#include <vector>

#include "gather.h"
#include "kernels/table.h"

namespace backlit {

// Columns of a product of matrices that one micro-tile computes.
template <class T>
struct Panel {
    int64_t first, columns;  // of the channels; columns may be fewer than the shape's
    int64_t start;           // where the panel begins in a row of all panels
    const TileShape<T>* shape;
};

// `channels` in panels of the widest shape, then of narrower ones, so that few columns stay empty.
template <class T>
std::vector<Panel<T>> panels_of(const Kernels<T>& kernels, int64_t channels) {
    std::vector<Panel<T>> panels;
    for (int64_t first = 0, start = 0; first < channels;) {
        const int64_t left = channels - first;
        int s = 0;
        while (s + 1 < kernels.shapes && kernels.shape[s].columns < left) ++s;
        // Of several vectors a quarter may stay empty; one vector is as fast as a narrower one.
        if (kernels.shape[s].columns > kernels.lanes && left * 4 <= kernels.shape[s].columns * 3) --s;
        const TileShape<T>& shape = kernels.shape[s];
        const int64_t columns = left < shape.columns ? left : shape.columns;
        panels.push_back({first, columns, start, &shape});
        first += columns;
        start += shape.columns;
    }
    return panels;
}

// The width of a row of all panels.
template <class T>
int64_t width_of(const std::vector<Panel<T>>& panels) {
    return panels.empty() ? 0 : panels.back().start + panels.back().shape->columns;
}

// Part of a source or of a result, perhaps copied: the element of channel c of sample n at position i is
//     data[origin + n*batch + c*channel + i[0]*axis[0] + i[1]*axis[1] + i[2]*axis[2]].
template <class T>
struct View {
    T* data;
    int64_t origin;
    Strides strides;

    T* at(int64_t n, int64_t a, int64_t b, int64_t c) const {
        return data + (origin + n * strides.batch + a * strides.axis[0] + b * strides.axis[1] + c * strides.axis[2]);
    }
};

// to[i*to_row + j*to_column] = from[i*from_row + j*from_column] for i < rows, j < columns.
template <class T>
void copy_matrix(const Kernels<T>& kernels, const T* from, int64_t from_row, int64_t from_column, T* to, int64_t to_row,
                 int64_t to_column, int64_t rows, int64_t columns) {
    if (from_column == 1 && to_column == 1) return kernels.copy(from, from_row, rows, columns, to, to_row);
    if (from_row == 1 && to_row == 1) return kernels.copy(from, from_column, columns, rows, to, to_column);
    if (from_row == 1 && to_column == 1) return kernels.transpose(from, from_column, columns, rows, to, to_row, false);
    if (from_column == 1 && to_row == 1) return kernels.transpose(from, from_row, rows, columns, to, to_column, false);
    constexpr int64_t edge = 16;  // small enough for both sides to stay in the first cache
    for (int64_t i0 = 0; i0 < rows; i0 += edge)
        for (int64_t j0 = 0; j0 < columns; j0 += edge)
            for (int64_t i = i0; i < rows && i < i0 + edge; ++i)
                for (int64_t j = j0; j < columns && j < j0 + edge; ++j)
                    to[i * to_row + j * to_column] = from[i * from_row + j * from_column];
}

}  // namespace backlit
