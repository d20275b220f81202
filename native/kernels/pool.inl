// Max and average pools, forward and backward: lanes are channels (channels last) or neighbouring pixels (first).

namespace backlit {
namespace {

// Where `value` comes before `best`: NaN above all, the first of equals. All ones for true.
template <class T, int lanes>
BACKLIT_INLINE Vector<Integer<T>, lanes> beats(Vector<T, lanes> value, Vector<T, lanes> best) {
    return ~(value <= best) & (best == best);
}

template <class T, class W>
struct MaxJob {
    static constexpr int most = 2;
    const Window& window;
    const T* in;
    T* out;
    W* winners;
    int64_t none;

    template <int lanes, int pixels>
    BACKLIT_INLINE_MEMBER void block(int64_t p, int64_t c) const {
        using I = Integer<T>;
        const Window& w = window;
        const int64_t step = w.in_step * w.channels;
        Vector<T, lanes> best[pixels];
        Vector<I, lanes> winner[pixels];
        for (int m = 0; m < pixels; ++m) {
            best[m] = splat<T, lanes>(T(-__builtin_inf()));
            winner[m] = splat<I, lanes>(I(none));
        }
        bool begun = false;
        for (int64_t r = 0; r < w.rows; ++r) {
            const T* row = in + (w.row_at[r] + p * w.in_step) * w.channels + c;
            for (int64_t t = 0; t < w.columns; ++t) {
                const T* x = row + w.column_at[t] * w.channels;
                const Vector<I, lanes> tap = splat<I, lanes>(I(w.row_tap[r] + w.column_tap[t]));
                for (int m = 0; m < pixels; ++m) {
                    const Vector<T, lanes> value = load<T, lanes>(x + m * step);
                    if (!begun) {
                        best[m] = value;
                        winner[m] = tap;
                        continue;
                    }
                    const Vector<I, lanes> better = beats<T, lanes>(value, best[m]);
                    best[m] = better ? value : best[m];
                    winner[m] = better ? tap : winner[m];
                }
                begun = true;
            }
        }
        window_ahead<pixels>(w, in, out, p, c);
        for (int m = 0; m < pixels; ++m) {
            const int64_t to = (p + m) * w.out_step * w.channels + c;
            store<T, lanes>(out + to, best[m]);
            store<W, lanes>(winners + to, convert<W, I, lanes>(winner[m]));
        }
    }
};

template <class T, class W, int lanes>
void max_window(const Window& window, const T* in, T* out, void* winners, int64_t none) {
    window_pixels<MaxJob<T, W>, lanes>({window, in, out, static_cast<W*>(winners), none});
}

template <class T, class W>
struct WonJob {
    static constexpr int most = 2;
    const Window& window;
    const T* in;
    const W* winners;
    T* out;

    template <int lanes, int pixels>
    BACKLIT_INLINE_MEMBER void block(int64_t p, int64_t c) const {
        using I = Integer<T>;
        const Window& w = window;
        Vector<T, lanes> sum[pixels];
        for (int m = 0; m < pixels; ++m) sum[m] = zero<T, lanes>();
        for (int64_t r = 0; r < w.rows; ++r) {
            for (int64_t t = 0; t < w.columns; ++t) {
                const Vector<I, lanes> tap = splat<I, lanes>(I(w.row_tap[r] + w.column_tap[t]));
                const int64_t first = w.row_at[r] + w.column_at[t] + p * w.in_step;
                for (int m = 0; m < pixels; ++m) {
                    const int64_t at = (first + m * w.in_step) * w.channels + c;
                    const Vector<I, lanes> winner = convert<I, W, lanes>(load<W, lanes>(winners + at));
                    sum[m] += winner == tap ? load<T, lanes>(in + at) : zero<T, lanes>();
                }
            }
        }
        window_ahead<pixels>(w, in, out, p, c);
        for (int m = 0; m < pixels; ++m) store<T, lanes>(out + (p + m) * w.out_step * w.channels + c, sum[m]);
    }
};

template <class T, class W, int lanes>
void won_window(const Window& window, const T* in, const void* winners, T* out) {
    window_pixels<WonJob<T, W>, lanes>({window, in, static_cast<const W*>(winners), out});
}

// shares: each term is divided by its own pixel's divisor; else the sum is by the divisor of the result's pixel.
template <class T, bool shares>
struct SumJob {
    static constexpr int most = 2;
    const Window& window;
    const T *in, *divisors;
    int64_t divisor_step;
    T* out;

    template <int lanes, int pixels>
    BACKLIT_INLINE_MEMBER void block(int64_t p, int64_t c) const {
        const Window& w = window;
        Vector<T, lanes> sum[pixels];
        for (int m = 0; m < pixels; ++m) sum[m] = zero<T, lanes>();
        for (int64_t r = 0; r < w.rows; ++r) {
            for (int64_t t = 0; t < w.columns; ++t) {
                const int64_t first = w.row_at[r] + w.column_at[t] + p * w.in_step;
                for (int m = 0; m < pixels; ++m) {
                    const int64_t at = first + m * w.in_step;
                    const Vector<T, lanes> value = load<T, lanes>(in + at * w.channels + c);
                    sum[m] += shares ? value / splat<T, lanes>(divisors[at]) : value;
                }
            }
        }
        window_ahead<pixels>(w, in, out, p, c);
        for (int m = 0; m < pixels; ++m) {
            if (!shares) sum[m] /= splat<T, lanes>(divisors[(p + m) * divisor_step]);
            store<T, lanes>(out + (p + m) * w.out_step * w.channels + c, sum[m]);
        }
    }
};

template <class T, int lanes>
void sum_window(const Window& window, const T* in, const T* divisors, int64_t divisor_step, T* out) {
    window_pixels<SumJob<T, false>, lanes>({window, in, divisors, divisor_step, out});
}

template <class T, int lanes>
void share_window(const Window& window, const T* in, const T* divisors, T* out) {
    window_pixels<SumJob<T, true>, lanes>({window, in, divisors, 0, out});
}

template <class T, class W, int lanes>
bool max_flat(const Flat<T>& f, T* out, void* winners, int64_t none) {
    using I = Integer<T>;
    W* won = static_cast<W*>(winners);
    const Vector<I, lanes> nobody = splat<I, lanes>(I(none));
    Vector<I, lanes> missing = {};
    for (int64_t i = 0; i < f.count; i += lanes) {
        Vector<T, lanes> best = splat<T, lanes>(T(-__builtin_inf()));
        Vector<I, lanes> winner = nobody;
        for (int64_t t = 0; t < f.taps; ++t) {
            const Vector<T, lanes> value = load<T, lanes>(f.in + f.offset[t] + i);
            const Vector<I, lanes> better = beats<T, lanes>(value, best);
            best = better ? value : best;
            winner = better ? splat<I, lanes>(I(f.tap[t])) : winner;
        }
        missing |= winner == nobody;
        store<T, lanes>(out + i, best);
        store<W, lanes>(won + i, convert<W, I, lanes>(winner));
    }
    I any = 0;
    for (int v = 0; v < lanes; ++v) any |= missing[v];
    return any != 0;
}

template <class T, class W, int lanes>
void won_flat(const Flat<T>& f, const void* winners, T* out) {
    using I = Integer<T>;
    const W* won = static_cast<const W*>(winners);
    for (int64_t i = 0; i < f.count; i += lanes) {
        Vector<T, lanes> sum = zero<T, lanes>();
        for (int64_t t = 0; t < f.taps; ++t) {
            const int64_t at = f.offset[t] + i;
            const Vector<I, lanes> winner = convert<I, W, lanes>(load<W, lanes>(won + at));
            sum += winner == splat<I, lanes>(I(f.tap[t])) ? load<T, lanes>(f.in + at) : zero<T, lanes>();
        }
        store<T, lanes>(out + i, sum);
    }
}

template <class T, int lanes>
void sum_flat(const Flat<T>& f, T* out) {
    for (int64_t i = 0; i < f.count; i += lanes) {
        Vector<T, lanes> sum = zero<T, lanes>();
        for (int64_t t = 0; t < f.taps; ++t) sum += load<T, lanes>(f.in + f.offset[t] + i);
        store<T, lanes>(out + i, sum);
    }
}

template <class T, int lanes>
void divide_row(int64_t count, const T* divisors, T* values) {
    int64_t i = 0;
    for (; i + lanes <= count; i += lanes)
        store<T, lanes>(values + i, load<T, lanes>(values + i) / load<T, lanes>(divisors + i));
    for (; i < count; ++i) values[i] /= divisors[i];
}

template <class T, class W, int lanes, int type>
constexpr void winner_kernels(Kernels<T>& table) {
    table.max_window[type] = max_window<T, W, lanes>;
    table.won_window[type] = won_window<T, W, lanes>;
    table.max_flat[type] = max_flat<T, W, lanes>;
    table.won_flat[type] = won_flat<T, W, lanes>;
}

template <class T, int lanes>
constexpr void pool_kernels(Kernels<T>& table) {
    winner_kernels<T, uint8_t, lanes, 0>(table);
    winner_kernels<T, uint16_t, lanes, 1>(table);
    winner_kernels<T, uint32_t, lanes, 2>(table);
    table.sum_window = sum_window<T, lanes>;
    table.share_window = share_window<T, lanes>;
    table.sum_flat = sum_flat<T, lanes>;
    table.divide = divide_row<T, lanes>;
}

}  // namespace
}  // namespace backlit
