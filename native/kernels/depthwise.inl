// Depthwise convolution: one filter a channel, so lanes are channels (channels last) or neighbouring pixels (first).

namespace backlit {
namespace {

// width, step: of windows whose `width` columns are neighbours and whose pixels lie `step` columns apart, so that what
// several pixels read is loaded once; width 0 takes any window.
template <class T, int width, int step>
struct DepthwiseJob {
    static constexpr int most = 7;  // pixels whose sums are in registers
    const Window& window;
    const T *in, *weight, *init;
    T* out;

    template <int lanes, int pixels>
    BACKLIT_INLINE_MEMBER void block(int64_t p, int64_t c) const {
        using V = Vector<T, lanes>;
        const Window& w = window;
        V sum[pixels];
        const V start = init ? load<T, lanes>(init + c) : zero<T, lanes>();
        for (int m = 0; m < pixels; ++m) sum[m] = start;
        for (int64_t r = 0; r < w.rows; ++r) {
            const T* row = in + (w.row_at[r] + p * w.in_step) * w.channels + c;
            const T* weights = weight + w.row_tap[r] * w.channels + c;
            if constexpr (width > 0) {
                V right[width];
                for (int t = 0; t < width; ++t) right[t] = load<T, lanes>(weights + w.column_tap[t] * w.channels);
                const T* x = row + w.column_at[0] * w.channels;
                const int64_t column = w.column_at[0] + p * step - w.low;
#pragma GCC unroll 16
                for (int q = 0; q < (pixels - 1) * step + width; ++q, x += w.channels) {
                    if (uint64_t(column + q) >= uint64_t(w.high - w.low)) continue;
                    const V left = load<T, lanes>(x);
#pragma GCC unroll 7
                    for (int m = 0; m < pixels; ++m) {
                        if (q - m * step >= 0 && q - m * step < width) sum[m] += left * right[q - m * step];
                    }
                }
            } else {
                for (int64_t t = 0; t < w.columns; ++t) {
                    const T* x = row + w.column_at[t] * w.channels;
                    const V right = load<T, lanes>(weights + w.column_tap[t] * w.channels);
#pragma GCC unroll 7
                    for (int m = 0; m < pixels; ++m) sum[m] += load<T, lanes>(x + m * w.in_step * w.channels) * right;
                }
            }
        }
        window_ahead<pixels>(w, in, out, p, c);
        for (int m = 0; m < pixels; ++m) store<T, lanes>(out + (p + m) * w.out_step * w.channels + c, sum[m]);
    }
};

template <class T, int lanes>
void depthwise_window(const Window& window, const T* in, const T* weight, const T* init, T* out) {
    const int64_t columns = window.columns;
    if (columns > 0 && depthwise_joins(columns, window.in_step) &&
        window.column_at[columns - 1] - window.column_at[0] == columns - 1) {
        if (columns == 5) return window_pixels<DepthwiseJob<T, 5, 1>, lanes>({window, in, weight, init, out});
        if (window.in_step == 1) return window_pixels<DepthwiseJob<T, 3, 1>, lanes>({window, in, weight, init, out});
        return window_pixels<DepthwiseJob<T, 3, 2>, lanes>({window, in, weight, init, out});
    }
    window_pixels<DepthwiseJob<T, 0, 0>, lanes>({window, in, weight, init, out});
}

// The sums of `taps` taps over all pixels, in registers, for one vector of channels.
template <class T, int lanes, int taps>
void depthwise_tap_sums(const TapSums<T>& s, int64_t first, int64_t c) {
    using V = Vector<T, lanes>;
    V sum[taps];
    const T* x[taps];
    for (int t = 0; t < taps; ++t) {
        sum[t] = zero<T, lanes>();
        x[t] = s.x + s.x_at[first + t] * s.channels + c;
    }
    const int64_t x_ahead = s.rows * s.x_row * s.channels, y_ahead = s.rows * s.y_row * s.channels;
    for (int64_t q = 0; q < s.rows; ++q) {
        const T* y = s.y + q * s.y_row * s.channels + c;
        int64_t at = q * s.x_row * s.channels;
        for (int64_t p = 0; p < s.pixels; ++p, y += s.channels, at += s.x_step * s.channels) {
            const V right = load<T, lanes>(y);
            // The next rectangle's: channels lie far apart, and processors see no stream in them.
            __builtin_prefetch(x[taps - 1] + at + x_ahead, 0, 2);
            if (s.x_step == 2) __builtin_prefetch(x[taps - 1] + at + x_ahead - s.channels, 0, 2);
            __builtin_prefetch(y + y_ahead, 0, 2);
#pragma GCC unroll 9
            for (int t = 0; t < taps; ++t) sum[t] += load<T, lanes>(x[t] + at) * right;
        }
    }
    for (int t = 0; t < taps; ++t) {
        T* to = s.sums + s.sum_at[first + t] * s.channels + c;
        store<T, lanes>(to, load<T, lanes>(to) + sum[t]);
    }
}

template <class T, int lanes, int taps>
BACKLIT_INLINE void depthwise_tap_group(const TapSums<T>& s, int64_t first, int64_t size, int64_t c) {
    if constexpr (taps > 1) {
        if (size < taps) return depthwise_tap_group<T, lanes, taps - 1>(s, first, size, c);
    }
    depthwise_tap_sums<T, lanes, taps>(s, first, c);
}

// The same for `rows` times three neighbouring columns, whole rows with their borders, x loaded once: where channels
// are a power of two, pixels compete for the same lines of the first-level cache, and what was read is soon gone.
template <class T, int lanes, int rows, int step>
void depthwise_joined_sums(const TapSums<T>& s, int64_t first, int64_t c) {
    using V = Vector<T, lanes>;
    V sum[rows][3];
    for (int r = 0; r < rows; ++r) {
        for (int t = 0; t < 3; ++t) sum[r][t] = zero<T, lanes>();
    }
    const int64_t channels = s.channels, begin = s.first < s.low ? s.low : s.first;
    const int64_t reach = s.first + (s.pixels - 1) * step + 3, end = reach < s.high ? reach : s.high;
    const int64_t x_ahead = s.rows * s.x_row * channels, y_ahead = s.rows * s.y_row * channels;
    for (int64_t q = 0; q < s.rows; ++q) {
        const T* x[rows];
        for (int r = 0; r < rows; ++r) x[r] = s.x + (s.x_at[first + 3 * r] - s.first + q * s.x_row) * channels + c;
        const T* y = s.y + q * s.y_row * channels + c;
        if constexpr (step == 1) {
            for (int64_t column = begin; column < end; ++column) {
                V left[rows];
#pragma GCC unroll 3
                for (int r = 0; r < rows; ++r) left[r] = load<T, lanes>(x[r] + column * channels);
                __builtin_prefetch(x[rows - 1] + column * channels + x_ahead, 0, 2);
                __builtin_prefetch(y + (column - s.first) * channels + y_ahead, 0, 2);
#pragma GCC unroll 3
                for (int t = 0; t < 3; ++t) {
                    const int64_t p = column - s.first - t;
                    if (uint64_t(p) >= uint64_t(s.pixels)) continue;
                    const V right = load<T, lanes>(y + p * channels);
#pragma GCC unroll 3
                    for (int r = 0; r < rows; ++r) sum[r][t] += left[r] * right;
                }
            }
        } else {
            for (int64_t p = 0; p < s.pixels; ++p) {
                const V right = load<T, lanes>(y + p * channels);
                __builtin_prefetch(y + p * channels + y_ahead, 0, 2);
#pragma GCC unroll 3
                for (int t = 0; t < 3; ++t) {
                    const int64_t column = s.first + p * step + t;
                    if (column < begin || column >= end) continue;
                    if (t > 0) __builtin_prefetch(x[rows - 1] + column * channels + x_ahead, 0, 2);
#pragma GCC unroll 3
                    for (int r = 0; r < rows; ++r) sum[r][t] += load<T, lanes>(x[r] + column * channels) * right;
                }
            }
        }
    }
    for (int r = 0; r < rows; ++r) {
        for (int t = 0; t < 3; ++t) {
            T* to = s.sums + s.sum_at[first + 3 * r + t] * channels + c;
            store<T, lanes>(to, load<T, lanes>(to) + sum[r][t]);
        }
    }
}

template <class T, int lanes, int step>
BACKLIT_INLINE void depthwise_joined_group(const TapSums<T>& s, int64_t c) {
    for (int64_t first = 0; first < s.taps; first += 9) {
        if (s.taps - first >= 9) depthwise_joined_sums<T, lanes, 3, step>(s, first, c);
        if (s.taps - first == 6) depthwise_joined_sums<T, lanes, 2, step>(s, first, c);
        if (s.taps - first == 3) depthwise_joined_sums<T, lanes, 1, step>(s, first, c);
    }
}

// Taps in nearly equal groups of at most nine; the channels that fill no vector go by narrower ones.
template <class T, int lanes>
void depthwise_channel_sums(const TapSums<T>& s, int64_t c) {
    for (; c + lanes <= s.channels; c += lanes) {
        if (s.joined) {
            s.x_step == 1 ? depthwise_joined_group<T, lanes, 1>(s, c) : depthwise_joined_group<T, lanes, 2>(s, c);
            continue;
        }
        const int64_t groups = (s.taps + 8) / 9;
        for (int64_t g = 0, first = 0; g < groups; ++g) {
            const int64_t size = (s.taps - first + groups - g - 1) / (groups - g);
            depthwise_tap_group<T, lanes, 9>(s, first, size, c);
            first += size;
        }
    }
    if constexpr (lanes > 1) {
        if (c < s.channels) depthwise_channel_sums<T, lanes / 2>(s, c);
    }
}

template <class T, int lanes>
void depthwise_sums(const TapSums<T>& s) {
    depthwise_channel_sums<T, lanes>(s, 0);
}

template <class T, int lanes, int vectors>
BACKLIT_INLINE void depthwise_flat_block(const Flat<T>& f, const T* weight, T init, T* out, int64_t i) {
    Vector<T, lanes> sum[vectors];
    for (int v = 0; v < vectors; ++v) sum[v] = splat<T, lanes>(init);
    for (int64_t t = 0; t < f.taps; ++t) {
        const Vector<T, lanes> right = splat<T, lanes>(weight[t]);
        const T* x = f.in + f.offset[t] + i;
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) sum[v] += load<T, lanes>(x + v * lanes) * right;
    }
    for (int v = 0; v < vectors; ++v) store<T, lanes>(out + i + v * lanes, sum[v]);
}

template <class T, int lanes>
void depthwise_flat(const Flat<T>& f, const T* weight, T init, T* out) {
    int64_t i = 0;
    for (; i + 4 * lanes <= f.count; i += 4 * lanes) depthwise_flat_block<T, lanes, 4>(f, weight, init, out, i);
    for (; i < f.count; i += lanes) depthwise_flat_block<T, lanes, 1>(f, weight, init, out, i);
}

template <class T, int lanes, int taps>
BACKLIT_INLINE void depthwise_flat_taps(const Flat<T>& f, const T* y, T* sums, int64_t first, int64_t size) {
    if constexpr (taps > 1) {
        if (size < taps) return depthwise_flat_taps<T, lanes, taps - 1>(f, y, sums, first, size);
    }
    Vector<T, lanes> sum[taps];
    const T* x[taps];
    for (int t = 0; t < taps; ++t) {
        sum[t] = load<T, lanes>(sums + (first + t) * lanes);
        x[t] = f.in + f.offset[first + t];
    }
    for (int64_t i = 0; i < f.count; i += lanes) {
        const Vector<T, lanes> right = load<T, lanes>(y + i);
#pragma GCC unroll 9
        for (int t = 0; t < taps; ++t) sum[t] += load<T, lanes>(x[t] + i) * right;
    }
    for (int t = 0; t < taps; ++t) store<T, lanes>(sums + (first + t) * lanes, sum[t]);
}

template <class T, int lanes>
void depthwise_flat_sums(const Flat<T>& f, const T* y, T* sums) {
    const int64_t groups = (f.taps + 8) / 9;
    for (int64_t g = 0, first = 0; g < groups; ++g) {
        const int64_t size = (f.taps - first + groups - g - 1) / (groups - g);
        depthwise_flat_taps<T, lanes, 9>(f, y, sums, first, size);
        first += size;
    }
}

template <class T, int lanes>
void split_row(int64_t count, const T* from, T* even, T* odd) {
    constexpr typename Count<lanes>::type all;
    int64_t i = 0;
    for (; i + lanes <= count; i += lanes) {
        const Vector<T, lanes> low = load<T, lanes>(from + 2 * i), high = load<T, lanes>(from + 2 * i + lanes);
        store<T, lanes>(even + i, every_second<T, lanes>(low, high, false, all));
        store<T, lanes>(odd + i, every_second<T, lanes>(low, high, true, all));
    }
    for (; i < count; ++i) {
        even[i] = from[2 * i];
        odd[i] = from[2 * i + 1];
    }
}

template <class T, int lanes>
void merge_row(int64_t count, const T* even, const T* odd, T* to) {
    constexpr typename Count<lanes>::type all;
    int64_t i = 0;
    for (; i + lanes <= count; i += lanes) {
        const Vector<T, lanes> a = load<T, lanes>(even + i), b = load<T, lanes>(odd + i);
        store<T, lanes>(to + 2 * i, zip<T, lanes>(a, b, false, all));
        store<T, lanes>(to + 2 * i + lanes, zip<T, lanes>(a, b, true, all));
    }
    for (; i < count; ++i) {
        to[2 * i] = even[i];
        to[2 * i + 1] = odd[i];
    }
}

template <class T, int lanes>
constexpr void depthwise_kernels(Kernels<T>& table) {
    table.depthwise_window = depthwise_window<T, lanes>;
    table.depthwise_sums = depthwise_sums<T, lanes>;
    table.depthwise_flat = depthwise_flat<T, lanes>;
    table.depthwise_flat_sums = depthwise_flat_sums<T, lanes>;
    table.split = split_row<T, lanes>;
    table.merge = merge_row<T, lanes>;
}

}  // namespace
}  // namespace backlit
