// The micro-tile, the one kernel behind every product of matrices: accumulators in registers, b by vectors, a broadcast.

namespace backlit {
namespace {

// along: the steps of a are contiguous and its rows anywhere; else the rows are contiguous and the steps anywhere.
template <class T, int lanes, int vectors, int rows, bool along>
void tile(const Tile<T>& t) {
    using V = Vector<T, lanes>;
    V sum[rows][vectors];  // every loop over it is unrolled, so that it is registers and no memory
#pragma GCC unroll 14
    for (int m = 0; m < rows; ++m) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) {
            sum[m][v] = load<T, lanes>(t.init + v * lanes);
        }
    }
    for (int m = 0; m < rows; ++m) {
        for (int v = 0; v < vectors; ++v) __builtin_prefetch(t.c + m * t.c_row + v * lanes, 1);
    }
    const int64_t row = along ? t.a_row : 1, a_step = along ? 1 : t.a_step, b_step = t.b_step;
    for (int64_t s = 0; s < t.segments; ++s) {
        const T* b = t.b + t.b_offset[s];
        // Rows in threes, as an address is a base plus at most twice another register: six registers serve 14 rows.
        const T* a[(rows + 2) / 3];
        for (int m = 0; m < (rows + 2) / 3; ++m) a[m] = t.a + t.a_offset[s] + 3 * m * row;
        for (int64_t r = 0; r < t.steps; ++r) {
            V right[vectors];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v) right[v] = load<T, lanes>(b + v * lanes);
#pragma GCC unroll 14
            for (int m = 0; m < rows; ++m) {
                const V left = splat<T, lanes>(along ? a[m / 3][m % 3 * row] : a[0][m]);
#pragma GCC unroll 4
                for (int v = 0; v < vectors; ++v) sum[m][v] += left * right[v];
            }
            b += b_step;
            for (int m = 0; m < (rows + 2) / 3; ++m) a[m] += a_step;
        }
    }
#pragma GCC unroll 14
    for (int m = 0; m < rows; ++m) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) {
            T* c = t.c + m * t.c_row + v * lanes;
            store<T, lanes>(c, t.accumulate ? load<T, lanes>(c) + sum[m][v] : sum[m][v]);
        }
    }
}

// The kernels of one shape, from `rows` rows down to 1.
template <class T, int lanes, int vectors, int rows>
constexpr void fill(TileShape<T>& shape) {
    if constexpr (rows > 0) {
        shape.along[rows] = tile<T, lanes, vectors, rows, true>;
        shape.across[rows] = tile<T, lanes, vectors, rows, false>;
        fill<T, lanes, vectors, rows - 1>(shape);
    }
}

template <class T, int lanes, int vectors, int rows>
constexpr TileShape<T> tile_shape() {
    static_assert(rows <= most_rows, "the table has no room for so many rows");
    TileShape<T> shape = {};
    shape.columns = lanes * vectors;
    shape.rows = rows;
    fill<T, lanes, vectors, rows>(shape);
    return shape;
}

}  // namespace
}  // namespace backlit
