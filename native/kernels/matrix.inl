// Copies and transposes of matrices: of a square of registers, and of a matrix in memory by such squares.

namespace backlit {
namespace {

// One lane of each result of a step of the transpose, as an index into the lanes of a, then those of b.
template <int lanes>
struct LowOnes {  // a0 b0 a1 b1 of every four lanes
    static constexpr int at(int i) { return i / 4 * 4 + i % 4 / 2 + i % 2 * lanes; }
};
template <int lanes>
struct HighOnes {  // a2 b2 a3 b3
    static constexpr int at(int i) { return LowOnes<lanes>::at(i) + 2; }
};
template <int lanes>
struct LowTwos {  // a0 a1 b0 b1
    static constexpr int at(int i) { return i / 4 * 4 + i % 2 + i % 4 / 2 * lanes; }
};
template <int lanes>
struct HighTwos {  // a2 a3 b2 b3
    static constexpr int at(int i) { return LowTwos<lanes>::at(i) + 2; }
};
template <int lanes, int size>
struct LowBlocks {  // the even blocks of `size` lanes of a, each followed by b's
    static constexpr int at(int i) { return (i & size) ? lanes + i - size : i; }
};
template <int lanes, int size>
struct HighBlocks {  // the odd blocks
    static constexpr int at(int i) { return LowBlocks<lanes, size>::at(i) + size; }
};

template <class Pick, class V, int... i>
BACKLIT_INLINE V shuffle(V a, V b, Indices<i...>) {
#if defined(__clang__) || __GNUC__ >= 12
    return __builtin_shufflevector(a, b, Pick::at(i)...);
#else
    using Index = decltype(a < b);  // integers as wide as the lanes
    return __builtin_shuffle(a, b, Index{Pick::at(i)...});
#endif
}
template <template <int> class Pick, int lanes, class V>
BACKLIT_INLINE V shuffle(V a, V b) {
    return shuffle<Pick<lanes>>(a, b, typename Count<lanes>::type());
}

// Blocks of `size` lanes and more change places between rows that are `size` apart.
template <int lanes, int size, class V>
BACKLIT_INLINE void exchange_blocks(V (&row)[lanes]) {
    if constexpr (size < lanes) {
        using All = typename Count<lanes>::type;
#pragma GCC unroll 16
        for (int i = 0; i < lanes; ++i) {
            if (i & size) continue;
            const V low = shuffle<LowBlocks<lanes, size>>(row[i], row[i + size], All());
            row[i + size] = shuffle<HighBlocks<lanes, size>>(row[i], row[i + size], All());
            row[i] = low;
        }
        exchange_blocks<lanes, 2 * size>(row);
    }
}

// row[i][j] becomes row[j][i].
template <class T, int lanes>
BACKLIT_INLINE void transpose(Vector<T, lanes> (&row)[lanes]) {
    using V = Vector<T, lanes>;
    if constexpr (sizeof(T) == 8) {
        exchange_blocks<lanes, 1>(row);
    } else {  // squares of four by four first
#pragma GCC unroll 4
        for (int i = 0; i < lanes; i += 4) {
            const V ones[4] = {
                shuffle<LowOnes, lanes>(row[i], row[i + 1]), shuffle<HighOnes, lanes>(row[i], row[i + 1]),
                shuffle<LowOnes, lanes>(row[i + 2], row[i + 3]), shuffle<HighOnes, lanes>(row[i + 2], row[i + 3])};
            row[i] = shuffle<LowTwos, lanes>(ones[0], ones[2]);
            row[i + 1] = shuffle<HighTwos, lanes>(ones[0], ones[2]);
            row[i + 2] = shuffle<LowTwos, lanes>(ones[1], ones[3]);
            row[i + 3] = shuffle<HighTwos, lanes>(ones[1], ones[3]);
        }
        exchange_blocks<lanes, 4>(row);
    }
}

// The first `count` of the lanes; the others are zero.
template <class T, int lanes>
BACKLIT_INLINE Vector<T, lanes> load_first(const T* from, int64_t count) {
    if (count >= lanes) return load<T, lanes>(from);
    T all[lanes] = {};
    T* to = all;
#pragma GCC unroll 4
    for (int half = lanes / 2; half > 0; half /= 2) {
        if (!(count & half)) continue;
        __builtin_memcpy(to, from, half * sizeof(T));
        to += half;
        from += half;
    }
    return load<T, lanes>(all);
}

// Stores the first `count` of the lanes and leaves the others alone.
template <class T, int lanes>
BACKLIT_INLINE void store_first(T* to, Vector<T, lanes> value, int64_t count) {
    if (count >= lanes) return store<T, lanes>(to, value);
    T all[lanes];
    store<T, lanes>(all, value);
    const T* from = all;
#pragma GCC unroll 4
    for (int half = lanes / 2; half > 0; half /= 2) {
        if (!(count & half)) continue;
        __builtin_memcpy(to, from, half * sizeof(T));
        to += half;
        from += half;
    }
}

// The first `count` of the lanes from one place to another.
template <class T, int lanes>
BACKLIT_INLINE void copy_first(const T* from, T* to, int64_t count) {
#pragma GCC unroll 4
    for (int half = lanes / 2; half > 0; half /= 2) {
        if (!(count & half)) continue;
        __builtin_memcpy(to, from, half * sizeof(T));
        to += half;
        from += half;
    }
}

// to[i, j] = from[i, j] for i below `rows` and j below `columns`.
template <class T, int lanes>
void copy_matrix(const T* from, int64_t from_row, int64_t rows, int64_t columns, T* to, int64_t to_row) {
    const int64_t whole = columns / lanes * lanes;
    for (int64_t i = 0; i < rows; ++i, from += from_row, to += to_row) {
        for (int64_t j = 0; j < whole; j += lanes) store<T, lanes>(to + j, load<T, lanes>(from + j));
        if (whole < columns) copy_first<T, lanes>(from + whole, to + whole, columns - whole);
    }
}

// to[j, i] (+)= from[i, j] for i below `rows` and j below `columns`.
template <class T, int lanes>
void transpose_matrix(const T* from, int64_t from_row, int64_t rows, int64_t columns, T* to, int64_t to_row, bool add) {
    using V = Vector<T, lanes>;
    for (int64_t i = 0; i < rows; i += lanes) {
        const int64_t high = rows - i < lanes ? rows - i : lanes;
        for (int64_t j = 0; j < columns; j += lanes) {
            const int64_t wide = columns - j < lanes ? columns - j : lanes;
            const T* corner = from + i * from_row + j;
            V row[lanes];
            if (high == lanes && wide == lanes) {
#pragma GCC unroll 16
                for (int r = 0; r < lanes; ++r) row[r] = load<T, lanes>(corner + r * from_row);
            } else {
                for (int r = 0; r < lanes; ++r) {
                    row[r] = r < high ? load_first<T, lanes>(corner + r * from_row, wide) : zero<T, lanes>();
                }
            }
            transpose<T, lanes>(row);
            T* result = to + j * to_row + i;
            for (int r = 0; r < wide; ++r) {
                T* place = result + r * to_row;
                store_first<T, lanes>(place, add ? load_first<T, lanes>(place, high) + row[r] : row[r], high);
            }
        }
    }
}

}  // namespace
}  // namespace backlit
