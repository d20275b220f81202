// The transforms of Winograd's convolution F(4x4, 3x3) and of its gradient F(3x3, 4x4), one vector of channels at a
// time.
//
// Both interpolate polynomials at the same six points: 0, a, -a, b, -b and infinity with a = 5/8 and b = 3/2, which are
// exact in binary and keep the rounding error low. The rows of a pair of points +-p share their even and their odd
// part. The points of a tile are numbered 6 * (row of the tile) + (column of the tile).

namespace backlit {
namespace {

namespace points {
constexpr float a = 5.f / 8, b = 3.f / 2;
constexpr float a2 = a * a, b2 = b * b, a3 = a2 * a, b3 = b2 * b;
constexpr double norm_0 = 1 / (double(a2) * b2);                             // of the point 0
constexpr double norm_a = 1 / (2 * double(a2) * (double(a2) - b2));          // of a and -a
constexpr double norm_b = 1 / (2 * double(b2) * (double(b2) - double(a2)));  // of b and -b
}  // namespace points

// Six values of the data to six points: v_j is the sum of d_i times the coefficient of x^i in the product of all
// (x - p_l) but the one of j.
struct DataTransform {
    static constexpr int reads = 6;
    template <class V>
    BACKLIT_INLINE void apply(const V (&d)[6], V (&v)[6]) {
        using namespace points;
        const V even_a = d[4] - b2 * d[2], odd_a = d[3] - b2 * d[1];
        const V even_b = d[4] - a2 * d[2], odd_b = d[3] - a2 * d[1];
        v[0] = d[4] - (a2 + b2) * d[2] + (a2 * b2) * d[0];
        v[1] = even_a + a * odd_a;
        v[2] = even_a - a * odd_a;
        v[3] = even_b + b * odd_b;
        v[4] = even_b - b * odd_b;
        v[5] = d[5] - (a2 + b2) * d[3] + (a2 * b2) * d[1];
    }
};

// Four values of the upstream gradient, the filter of F(3, 4), to six points: v_j = (sum of d_i p_j^i) * norm_j.
struct GradientTransform {
    static constexpr int reads = 4;
    template <class V>
    BACKLIT_INLINE void apply(const V (&d)[4], V (&v)[6]) {
        using namespace points;
        const V even_a = float(norm_a) * d[0] + float(norm_a * a2) * d[2];
        const V odd_a = float(norm_a * a) * d[1] + float(norm_a * a3) * d[3];
        const V even_b = float(norm_b) * d[0] + float(norm_b * b2) * d[2];
        const V odd_b = float(norm_b * b) * d[1] + float(norm_b * b3) * d[3];
        v[0] = float(norm_0) * d[0];
        v[1] = even_a + odd_a;
        v[2] = even_a - odd_a;
        v[3] = even_b + odd_b;
        v[4] = even_b - odd_b;
        v[5] = d[3];
    }
};

// Three weights, the filter of F(4, 3), to six points.
template <class V>
BACKLIT_INLINE void transform_weights(V w0, V w1, V w2, V (&v)[6]) {
    using namespace points;
    const V even_a = float(norm_a) * w0 + float(norm_a * a2) * w2, odd_a = float(norm_a * a) * w1;
    const V even_b = float(norm_b) * w0 + float(norm_b * b2) * w2, odd_b = float(norm_b * b) * w1;
    v[0] = float(norm_0) * w0;
    v[1] = even_a + odd_a;
    v[2] = even_a - odd_a;
    v[3] = even_b + odd_b;
    v[4] = even_b - odd_b;
    v[5] = w2;
}

// Six points to `results` values: y_i = sum of m_j p_j^i, and the point infinity belongs to the last.
template <int results, class V>
BACKLIT_INLINE void invert(const V (&m)[6], V (&y)[results]) {
    using namespace points;
    const V even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
    y[0] = m[0] + even_a + even_b;
    y[1] = a * odd_a + b * odd_b;
    y[2] = a2 * even_a + b2 * even_b;
    if constexpr (results == 4) y[3] = a3 * odd_a + b3 * odd_b;
    y[results - 1] += m[5];
}

// A strip of tiles, one vector of channels of it: columns first, each once for the two tiles that share it, then rows.
template <class T, int lanes, class Transform>
void transform_strip(const WinogradStrip<T>& s) {
    using V = Vector<T, lanes>;
    constexpr int reads = Transform::reads;
    constexpr int most_columns = 4 * winograd_strip + 2;
    T work[most_columns + lanes][6][lanes] __attribute__((aligned(64)));  // the columns, transformed
    const int64_t columns = 4 * s.tiles + reads - 4;
    const int64_t first = s.left < 0 ? (-s.left < columns ? -s.left : columns) : 0;  // the columns inside of the image
    const int64_t right = s.width - s.left < columns ? s.width - s.left : columns, last = right > first ? right : first;
    for (int64_t j = 0; j < columns; ++j) {
        if (j == first) j = last;
        if (j >= columns) break;
#pragma GCC unroll 6
        for (int p = 0; p < 6; ++p) store<T, lanes>(work[j][p], zero<T, lanes>());
    }
    bool inside[reads];
    const T* row[reads];
    for (int r = 0; r < reads; ++r) {
        inside[r] = s.top + r >= 0 && s.top + r < s.height;
        row[r] = s.image + (inside[r] ? s.top + r : 0) * s.row + s.left * s.column;
    }
    if (s.channel == 1) {
        static const T nothing[lanes] = {};
        int64_t step[reads];
        for (int r = 0; r < reads; ++r) {
            step[r] = inside[r] ? s.column : 0;
            if (!inside[r]) row[r] = nothing;
        }
        for (int64_t j = first; j < last; ++j) {
            V d[reads], v[6];
            if (s.channels >= lanes) {
#pragma GCC unroll 6
                for (int r = 0; r < reads; ++r) d[r] = load<T, lanes>(row[r] + j * step[r]);
#pragma GCC unroll 6
                for (int r = reads - 4; r < reads; ++r) __builtin_prefetch(row[r] + j * step[r] + 4 * s.row);
            } else {
                for (int r = 0; r < reads; ++r) d[r] = load_first<T, lanes>(row[r] + j * step[r], s.channels);
            }
            Transform::apply(d, v);
#pragma GCC unroll 6
            for (int p = 0; p < 6; ++p) store<T, lanes>(work[j][p], v[p]);
        }
    } else {
        T square[6][lanes][lanes] __attribute__((aligned(64)));  // one for each point: (channels, columns)
        if (s.channels < lanes) __builtin_memset(square, 0, sizeof(square));
        for (int64_t j = first; j < last; j += lanes) {
            const int64_t count = last - j < lanes ? last - j : lanes;
            for (int64_t c = 0; c < s.channels && c < lanes; ++c) {
                V d[reads], v[6];
#pragma GCC unroll 6
                for (int r = 0; r < reads; ++r) {
                    const T* from = row[r] + c * s.channel + j;
                    if (r >= reads - 4) __builtin_prefetch(from + 4 * s.row);
                    if (!inside[r])
                        d[r] = zero<T, lanes>();
                    else if (s.end - from >= lanes)
                        d[r] = load<T, lanes>(from);  // lanes past `count` are not used
                    else
                        d[r] = load_first<T, lanes>(from, count);
                }
                Transform::apply(d, v);
#pragma GCC unroll 6
                for (int p = 0; p < 6; ++p) store<T, lanes>(square[p][c], v[p]);
            }
            for (int p = 0; p < 6; ++p) {
                V lines[lanes];
#pragma GCC unroll 16
                for (int c = 0; c < lanes; ++c) lines[c] = load<T, lanes>(square[p][c]);
                transpose<T, lanes>(lines);
#pragma GCC unroll 16
                for (int c = 0; c < lanes; ++c) {
                    if (c < count) store<T, lanes>(work[j + c][p], lines[c]);
                }
            }
        }
    }
    for (int64_t t = 0; t < s.tiles; ++t) {
        T* tile = s.result + t * s.result_tile;
        for (int p = 0; p < 6; ++p) {
            V d[reads], v[6];
#pragma GCC unroll 6
            for (int r = 0; r < reads; ++r) d[r] = load<T, lanes>(work[4 * t + r][p]);
            Transform::apply(d, v);
#pragma GCC unroll 6
            for (int q = 0; q < 6; ++q) store<T, lanes>(tile + (6 * p + q) * s.result_point, v[q]);
        }
    }
}

// The 36 points of one tile, `point` apart, to results x results values.
template <class T, int lanes, int results>
BACKLIT_INLINE void invert_tile(const T* m, int64_t point, Vector<T, lanes> (&y)[results][results]) {
    using V = Vector<T, lanes>;
    V half[results][6];
#pragma GCC unroll 6
    for (int q = 0; q < 6; ++q) {
        V column[6], result[results];
#pragma GCC unroll 6
        for (int p = 0; p < 6; ++p) column[p] = load<T, lanes>(m + (6 * p + q) * point);
        invert<results>(column, result);
#pragma GCC unroll 4
        for (int r = 0; r < results; ++r) half[r][q] = result[r];
    }
#pragma GCC unroll 4
    for (int r = 0; r < results; ++r) invert<results>(half[r], y[r]);
}

// The inverse of a strip of tiles, one vector of channels of it, cropped to the image.
template <class T, int lanes>
void invert_strip(const WinogradResult<T>& s) {
    using V = Vector<T, lanes>;
    const V bias = load<T, lanes>(s.bias);
    const int64_t rows = s.height - s.top < 4 ? s.height - s.top : 4;
    if (s.channel == 1) {
        for (int64_t t = 0; t < s.tiles; ++t) {
            V y[4][4];
            invert_tile<T, lanes, 4>(s.points + t * s.tile, s.point, y);
            const int64_t left = s.left + 4 * t, columns = s.width - left < 4 ? s.width - left : 4;
            T* corner = s.image + s.top * s.row + left * s.column;
            for (int i = 0; i < 4; ++i)
                for (int j = 0; j < 4; ++j) __builtin_prefetch(corner + i * s.row + (j + 4) * s.column, 1);
            if (rows == 4 && columns == 4 && s.channels >= lanes) {
#pragma GCC unroll 4
                for (int i = 0; i < 4; ++i) {
#pragma GCC unroll 4
                    for (int j = 0; j < 4; ++j) store<T, lanes>(corner + i * s.row + j * s.column, y[i][j] + bias);
                }
            } else {
#pragma GCC unroll 4
                for (int i = 0; i < 4; ++i) {
#pragma GCC unroll 4
                    for (int j = 0; j < 4; ++j) {
                        if (i >= rows || j >= columns) continue;
                        store_first<T, lanes>(corner + i * s.row + j * s.column, y[i][j] + bias, s.channels);
                    }
                }
            }
        }
        return;
    }
    // Channels apart: the pixels of the strip as rows of a matrix, transposed by squares. Where the strip is as wide as
    // the image, its rows follow one another in memory and make one run.
    T work[16 * winograd_strip + lanes][lanes] __attribute__((aligned(64)));  // (pixels, channels)
    const int64_t width = s.width - s.left < 4 * s.tiles ? s.width - s.left : 4 * s.tiles;
    for (int64_t t = 0; t < s.tiles; ++t) {
        V y[4][4];
        invert_tile<T, lanes, 4>(s.points + t * s.tile, s.point, y);
        const int64_t columns = width - 4 * t < 4 ? width - 4 * t : 4;
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
#pragma GCC unroll 4
            for (int j = 0; j < 4; ++j) {
                if (i < rows && j < columns) store<T, lanes>(work[i * width + 4 * t + j], y[i][j] + bias);
            }
        }
    }
    const bool joined = width == s.row;
    const int64_t run = joined ? rows * width : width;
    for (int64_t i = 0; i < (joined ? 1 : rows); ++i) {
        T* line = s.image + (s.top + i) * s.row + s.left;
        for (int64_t j = 0; j < run; j += lanes) {
            const int64_t count = run - j < lanes ? run - j : lanes;
            V pixels[lanes];
#pragma GCC unroll 16
            for (int q = 0; q < lanes; ++q) pixels[q] = load<T, lanes>(work[i * width + j + q]);
            transpose<T, lanes>(pixels);
            if (count == lanes && s.channels >= lanes) {
#pragma GCC unroll 16
                for (int c = 0; c < lanes; ++c) store<T, lanes>(line + c * s.channel + j, pixels[c]);
            } else {
#pragma GCC unroll 16
                for (int c = 0; c < lanes; ++c) {
                    if (c < s.channels) store_first<T, lanes>(line + c * s.channel + j, pixels[c], count);
                }
            }
        }
    }
}

// Weights (steps, 9, width) to points (36, steps, width); flipped: tap 8 first.
template <class T, int lanes>
void transform_filters(const T* weights, int64_t steps, int64_t width, bool flipped, T* result, int64_t point) {
    using V = Vector<T, lanes>;
    const int64_t first = flipped ? 8 * width : 0, tap = flipped ? -width : width;
    for (int64_t s = 0; s < steps; ++s) {
        for (int64_t k = 0; k < width; k += lanes) {
            const T* w = weights + 9 * s * width + first + k;
            T* to = result + s * width + k;
            V half[3][6];
#pragma GCC unroll 3
            for (int j = 0; j < 3; ++j) {
                transform_weights(load<T, lanes>(w + j * tap), load<T, lanes>(w + (j + 3) * tap),
                                  load<T, lanes>(w + (j + 6) * tap), half[j]);
            }
#pragma GCC unroll 6
            for (int p = 0; p < 6; ++p) {
                V v[6];
                transform_weights(half[0][p], half[1][p], half[2][p], v);
#pragma GCC unroll 6
                for (int q = 0; q < 6; ++q) store<T, lanes>(to + (6 * p + q) * point, v[q]);
            }
        }
    }
}

// Points (36, rows, width), `point` apart, to the nine taps of every row's gradient:
// to[c * to_row + t * to_tap + k] (+)= tap t of row c and column k, for k below `columns`.
template <class T, int lanes>
void invert_gradient(const WinogradGradient<T>& g) {
    using V = Vector<T, lanes>;
    for (int64_t c = 0; c < g.rows; ++c) {
        for (int64_t k = 0; k < g.columns; k += lanes) {
            V y[3][3];
            invert_tile<T, lanes, 3>(g.points + c * g.width + k, g.point, y);
#pragma GCC unroll 3
            for (int i = 0; i < 3; ++i) {
#pragma GCC unroll 3
                for (int j = 0; j < 3; ++j) {
                    T* to = g.result + c * g.row + (3 * i + j) * g.tap + k;
                    const int64_t count = g.columns - k;
                    store_first<T, lanes>(to, g.add ? load_first<T, lanes>(to, count) + y[i][j] : y[i][j], count);
                }
            }
        }
    }
}

template <class T, int lanes>
constexpr WinogradKernels<T> winograd_kernels() {
    return {transform_strip<T, lanes, DataTransform>,
            transform_strip<T, lanes, GradientTransform>,
            invert_strip<T, lanes>,
            transform_filters<T, lanes>,
            invert_gradient<T, lanes>};
}

}  // namespace
}  // namespace backlit
