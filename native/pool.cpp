#include "pool.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "memory.h"
#include "plane.h"
#include "threads.h"
#include "windows.h"

namespace backlit {
namespace {

constexpr int64_t piece_numbers = int64_t{1} << 16;

// With one channel both layouts are the same, and only planes have lanes to fill.
bool by_planes(const Problem& p) { return !p.channels_last || p.in_channels == 1; }

// The kernels' index of a type of winners; winner_types for the one that only the definition serves.
template <class W>
constexpr int winner_type() {
    return sizeof(W) == 1 ? 0 : sizeof(W) == 2 ? 1 : sizeof(W) == 4 ? 2 : winner_types;
}

// visit(output position, input position, tap) for everything that a sample's windows read, in the order of outputs
// and, within each, of taps.
template <class Visit>
void each_read(const Problem& p, Visit visit) {
    const Reads reads[3] = {outputs_read(p.axis[0]), outputs_read(p.axis[1]), outputs_read(p.axis[2])};
    int64_t output = 0;
    for (int64_t a = 0; a < reads[0].positions; ++a)
        for (int64_t b = 0; b < reads[1].positions; ++b)
            for (int64_t c = 0; c < reads[2].positions; ++c, ++output) {
                const Segment s[3] = {reads[0].at(a), reads[1].at(b), reads[2].at(c)};
                for (int64_t i = s[0].first; i < s[0].last; ++i)
                    for (int64_t j = s[1].first; j < s[1].last; ++j)
                        for (int64_t k = s[2].first; k < s[2].last; ++k) {
                            const int64_t from[3] = {a * p.axis[0].stride + reads[0].residues[0].offset[i],
                                                     b * p.axis[1].stride + reads[1].residues[0].offset[j],
                                                     c * p.axis[2].stride + reads[2].residues[0].offset[k]};
                            visit(output, (from[0] * p.axis[1].input + from[1]) * p.axis[2].input + from[2],
                                  (i * p.axis[1].kernel + j) * p.axis[2].kernel + k);
                        }
            }
}

// body(first of the channel's inputs, first of its outputs, distance of neighbouring positions) for every channel of
// every sample.
template <class Body>
void each_channel(const Problem& p, int threads, Body body) {
    const Strides in = p.input_strides(), out = p.output_strides();
    parallel_for(p.batch * p.in_channels, threads, [&](int64_t i) {
        const int64_t n = i / p.in_channels, c = i % p.in_channels;
        body(n * in.batch + c * in.channel, n * out.batch + c * out.channel, in.axis[2]);
    });
}

// For every piece of a channels-last pool: visit(window, first number read, first number written).
template <class Visit>
void each_window(const Problem& p, bool backwards, int threads, Visit visit) {
    const Windows windows(p, backwards);
    const int64_t size = windows.units_per_piece(), units = windows.units();
    parallel_for(ceil_div(units, size), threads,
                 [&](int64_t piece) { windows.visit(piece * size, std::min(units, (piece + 1) * size), visit); });
}

// For every piece of a channels-first pool: begin() makes what it works in, then band by band begin_band(work, band,
// taps) and visit(work, band, taps, i) for every plane i.
template <class Begin, class BeginBand, class Visit>
void each_plane(const Problem& p, const Plane& plane, int64_t numbers, int threads, Begin begin, BeginBand begin_band,
                Visit visit) {
    const int64_t planes = p.batch * p.in_channels, bands = plane.bands();
    const int64_t group = std::max<int64_t>(1, std::min(piece_numbers / numbers, planes / 8));
    const int64_t split = std::max<int64_t>(1, std::min(bands, numbers / piece_numbers));
    parallel_for(ceil_div(planes, group) * split, threads, [&](int64_t piece) {
        const int64_t first = piece / split * group, last = std::min(planes, first + group), part = piece % split;
        auto work = begin();
        for (int64_t b = part * bands / split; b < (part + 1) * bands / split; ++b) {
            const Band band = plane.band(b);
            const std::vector<FlatTaps> taps = plane.taps(band);
            begin_band(work, band, taps);
            for (int64_t i = first; i < last; ++i) visit(work, band, taps, i);
        }
    });
}

// What a piece works in: a staged band and its flat results, with winners beside them.
template <class T, class W>
struct Work {
    Work(int64_t staged_count, int64_t staged_winners_count, int64_t flat_count, int64_t flat_winners_count)
        : staged(staged_count),
          flat(flat_count),
          staged_winners(staged_winners_count),
          flat_winners(flat_winners_count) {
        std::fill_n(staged.data(), staged_count, T(0));
        std::fill_n(staged_winners.data(), staged_winners_count, W(0));
    }
    Buffer<T> staged, flat;
    Buffer<W> staged_winners, flat_winners;
};

template <class T>
Flat<T> flat_of(const Plane& plane, const Band& band, const FlatTaps& taps, const T* staged) {
    return {staged, plane.flat_count(band), static_cast<int64_t>(taps.tap.size()), taps.offset.data(), taps.tap.data()};
}

// The first tap at which an output reads an input; `none` if there is none.
struct FirstTap {
    explicit FirstTap(const Problem& p)
        : reads{outputs_read(p.axis[0]), outputs_read(p.axis[1]), outputs_read(p.axis[2])},
          kernel{p.axis[0].kernel, p.axis[1].kernel, p.axis[2].kernel},
          none(p.taps()) {}
    int64_t at(int64_t a, int64_t b, int64_t c) const {
        const Segment s[3] = {reads[0].at(a), reads[1].at(b), reads[2].at(c)};
        for (const Segment& segment : s)
            if (segment.first == segment.last) return none;
        return (s[0].first * kernel[1] + s[1].first) * kernel[2] + s[2].first;
    }
    Reads reads[3];
    int64_t kernel[3], none;
};

template <class T, class W>
void max_by_definition(const Problem& p, const T* x, T* y, W* winners, int threads) {
    each_channel(p, threads, [&](int64_t in, int64_t out, int64_t step) {
        const W none = static_cast<W>(p.taps());
        for (int64_t o = 0; o < p.outputs(); ++o) {
            y[out + o * step] = -std::numeric_limits<T>::infinity();
            winners[out + o * step] = none;
        }
        each_read(p, [&](int64_t output, int64_t input, int64_t tap) {
            const int64_t o = out + output * step;
            const T value = x[in + input * step];
            if (winners[o] != none && (value <= y[o] || y[o] != y[o])) return;
            y[o] = value;
            winners[o] = static_cast<W>(tap);
        });
    });
}

template <class T, class W>
void won_by_definition(const Problem& p, const T* dy, const W* winners, T* dx, int threads) {
    each_channel(p, threads, [&](int64_t in, int64_t out, int64_t step) {
        for (int64_t i = 0; i < p.inputs(); ++i) dx[in + i * step] = 0;
        each_read(p, [&](int64_t output, int64_t input, int64_t tap) {
            const int64_t o = out + output * step;
            if (winners[o] == static_cast<W>(tap)) dx[in + input * step] += dy[o];
        });
    });
}

}  // namespace

template <class T, class W>
void max_pool_forward(const Problem& p, const Kernels<T>& kernels, const T* x, T* y, W* winners, int threads) {
    if (p.batch == 0 || p.outputs() == 0) return;
    constexpr int type = winner_type<W>();
    const int64_t none = p.taps();
    if constexpr (type < winner_types) {
        if (!by_planes(p))
            return each_window(p, false, threads, [&](const Window& window, int64_t from, int64_t to) {
                const int64_t c = p.in_channels;
                kernels.max_window[type](window, x + from * c, y + to * c, winners + to * c, none);
            });
        const Plane plane(p, false, kernels.lanes);
        const FirstTap first(p);
        const T least = -std::numeric_limits<T>::infinity();
        if (plane.fits())
            return each_plane(
                p, plane, p.outputs(), threads,
                [&] { return Work<T, W>(plane.staged_count(), 0, plane.flat_count(), plane.flat_count()); },
                [](Work<T, W>&, const Band&, const std::vector<FlatTaps>&) {},
                [&](Work<T, W>& work, const Band& band, const std::vector<FlatTaps>& taps, int64_t i) {
                    plane.stage(band, x + i * p.inputs(), least, work.staged.data(), kernels.split);
                    const bool missing = kernels.max_flat[type](flat_of(plane, band, taps[0], work.staged.data()),
                                                                work.flat.data(), work.flat_winners.data(), none);
                    plane.template gather<T>(band, work.flat.data(), y + i * p.outputs(), nullptr);
                    W* won = winners + i * p.outputs();
                    plane.template gather<W>(band, work.flat_winners.data(), won, nullptr);
                    // Where all that is read is -inf, the first tap that reads anything has won.
                    for (int64_t row = band.row; missing && row < band.row + band.rows; ++row)
                        for (int64_t column = band.column; column < band.column + band.columns; ++column) {
                            W& winner = won[(band.depth * p.axis[1].output + row) * p.axis[2].output + column];
                            if (winner == static_cast<W>(none))
                                winner = static_cast<W>(first.at(band.depth, row, column));
                        }
                });
    }
    max_by_definition(p, x, y, winners, threads);
}

template <class T, class W>
void max_pool_backward(const Problem& p, const Kernels<T>& kernels, const T* dy, const W* winners, T* dx, int threads) {
    if (p.batch == 0 || p.inputs() == 0) return;
    constexpr int type = winner_type<W>();
    if constexpr (type < winner_types) {
        if (!by_planes(p))
            return each_window(p, true, threads, [&](const Window& window, int64_t from, int64_t to) {
                const int64_t c = p.in_channels;
                kernels.won_window[type](window, dy + from * c, winners + from * c, dx + to * c);
            });
        const Plane plane(p, true, kernels.lanes);
        if (plane.fits())
            return each_plane(
                p, plane, p.inputs(), threads,
                [&] {
                    return Work<T, W>(plane.staged_count(), plane.staged_count(), plane.flat_count() * plane.pairs(),
                                      0);
                },
                [](Work<T, W>&, const Band&, const std::vector<FlatTaps>&) {},
                [&](Work<T, W>& work, const Band& band, const std::vector<FlatTaps>& taps, int64_t i) {
                    plane.stage(band, dy + i * p.outputs(), T(0), work.staged.data(), kernels.split);
                    plane.template stage<W>(band, winners + i * p.outputs(), W(0), work.staged_winners.data(), nullptr);
                    for (size_t pair = 0; pair < taps.size(); ++pair)
                        kernels.won_flat[type](flat_of(plane, band, taps[pair], work.staged.data()),
                                               work.staged_winners.data(),
                                               work.flat.data() + static_cast<int64_t>(pair) * plane.flat_count());
                    plane.gather(band, work.flat.data(), dx + i * p.inputs(), kernels.merge);
                });
    }
    won_by_definition(p, dy, winners, dx, threads);
}

template <class T>
void avg_pool_forward(const Problem& p, const Kernels<T>& kernels, const T* x, const double* divisors, T* y,
                      int threads) {
    if (p.batch == 0 || p.outputs() == 0) return;
    const std::vector<T> divisor(divisors, divisors + p.outputs());
    if (!by_planes(p))
        return each_window(p, false, threads, [&](const Window& window, int64_t from, int64_t to) {
            const int64_t c = p.in_channels;
            kernels.sum_window(window, x + from * c, divisor.data() + to % p.outputs(), 1, y + to * c);
        });
    const Plane plane(p, false, kernels.lanes);
    if (plane.fits())
        return each_plane(
            p, plane, p.outputs(), threads,
            [&] { return Work<T, T>(plane.staged_count(), plane.flat_count(), plane.flat_count(), 0); },
            [&](Work<T, T>& work, const Band& band, const std::vector<FlatTaps>&) {
                plane.lay_out(band, divisor.data(), T(1), work.staged_winners.data());
            },
            [&](Work<T, T>& work, const Band& band, const std::vector<FlatTaps>& taps, int64_t i) {
                plane.stage(band, x + i * p.inputs(), T(0), work.staged.data(), kernels.split);
                kernels.sum_flat(flat_of(plane, band, taps[0], work.staged.data()), work.flat.data());
                kernels.divide(plane.flat_count(band), work.staged_winners.data(), work.flat.data());
                plane.template gather<T>(band, work.flat.data(), y + i * p.outputs(), nullptr);
            });
    each_channel(p, threads, [&](int64_t in, int64_t out, int64_t step) {
        for (int64_t o = 0; o < p.outputs(); ++o) y[out + o * step] = 0;
        each_read(p, [&](int64_t output, int64_t input, int64_t) { y[out + output * step] += x[in + input * step]; });
        for (int64_t o = 0; o < p.outputs(); ++o) y[out + o * step] /= divisor[o];
    });
}

template <class T>
void avg_pool_backward(const Problem& p, const Kernels<T>& kernels, const T* dy, const double* divisors, T* dx,
                       int threads) {
    if (p.batch == 0 || p.inputs() == 0) return;
    const std::vector<T> divisor(divisors, divisors + p.outputs());
    const bool same = std::all_of(divisor.begin(), divisor.end(), [&](T d) { return d == divisor[0]; });
    if (!by_planes(p))
        return each_window(p, true, threads, [&](const Window& window, int64_t from, int64_t to) {
            const int64_t c = p.in_channels;
            if (same) return kernels.sum_window(window, dy + from * c, divisor.data(), 0, dx + to * c);
            const int64_t sample = to / p.inputs() * p.outputs();  // divisors are the same for all samples
            kernels.share_window(window, dy + from * c, divisor.data() + (from - sample), dx + to * c);
        });
    const Plane plane(p, true, kernels.lanes);
    if (plane.fits())
        return each_plane(
            p, plane, p.inputs(), threads,
            [&] {
                return Work<T, T>(plane.staged_count(), plane.staged_count(), plane.flat_count() * plane.pairs(), 0);
            },
            [&](Work<T, T>& work, const Band& band, const std::vector<FlatTaps>&) {
                std::fill_n(work.staged_winners.data(), plane.staged_count(), T(1));
                plane.stage(band, divisor.data(), T(1), work.staged_winners.data(), kernels.split);
            },
            [&](Work<T, T>& work, const Band& band, const std::vector<FlatTaps>& taps, int64_t i) {
                plane.stage(band, dy + i * p.outputs(), T(0), work.staged.data(), kernels.split);
                kernels.divide(plane.staged_count(), work.staged_winners.data(), work.staged.data());
                for (size_t pair = 0; pair < taps.size(); ++pair)
                    kernels.sum_flat(flat_of(plane, band, taps[pair], work.staged.data()),
                                     work.flat.data() + static_cast<int64_t>(pair) * plane.flat_count());
                plane.gather(band, work.flat.data(), dx + i * p.inputs(), kernels.merge);
            });
    each_channel(p, threads, [&](int64_t in, int64_t out, int64_t step) {
        for (int64_t i = 0; i < p.inputs(); ++i) dx[in + i * step] = 0;
        each_read(p, [&](int64_t output, int64_t input, int64_t) {
            dx[in + input * step] += dy[out + output * step] / divisor[output];
        });
    });
}

#define BACKLIT_MAX_POOL(T, W)                                                                \
    template void max_pool_forward(const Problem&, const Kernels<T>&, const T*, T*, W*, int); \
    template void max_pool_backward(const Problem&, const Kernels<T>&, const T*, const W*, T*, int);
#define BACKLIT_POOLS(T)                                                                                 \
    BACKLIT_MAX_POOL(T, uint8_t)                                                                         \
    BACKLIT_MAX_POOL(T, uint16_t)                                                                        \
    BACKLIT_MAX_POOL(T, uint32_t)                                                                        \
    BACKLIT_MAX_POOL(T, uint64_t)                                                                        \
    template void avg_pool_forward(const Problem&, const Kernels<T>&, const T*, const double*, T*, int); \
    template void avg_pool_backward(const Problem&, const Kernels<T>&, const T*, const double*, T*, int);
BACKLIT_POOLS(float)
BACKLIT_POOLS(double)
#undef BACKLIT_POOLS
#undef BACKLIT_MAX_POOL

}  // namespace backlit
