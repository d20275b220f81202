#include "depthwise.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "memory.h"
#include "plane.h"
#include "small.h"
#include "threads.h"
#include "windows.h"

namespace backlit {
namespace {

constexpr int64_t piece_numbers = int64_t{1} << 16;
constexpr int64_t most_chunks = 32;  // sums that are kept apart and added in order

// One channel of a batch as a problem of its own.
Problem one_channel(Problem p, int64_t batch) {
    p.batch = batch;
    p.in_channels = p.out_channels = p.groups = 1;
    p.channels_last = false;
    return p;
}

// With one channel both layouts are the same, and only planes have lanes to fill.
bool by_planes(const Problem& p) { return !p.channels_last || p.in_channels == 1; }

template <class T>
bool all_finite(const T* values, int64_t count) {
    return std::all_of(values, values + count, [](T value) { return std::isfinite(value); });
}

// Channels last: out = bias + sum of in * w over the windows.
template <class T>
void by_windows(const Problem& p, const Kernels<T>& kernels, bool backwards, const T* in, const T* w, const T* bias,
                T* out, int threads) {
    const Windows windows(p, backwards, true);
    const int64_t size = windows.units_per_piece(), units = windows.units(), channels = p.in_channels;
    parallel_for(ceil_div(units, size), threads, [&](int64_t piece) {
        windows.visit(piece * size, std::min(units, (piece + 1) * size),
                      [&](const Window& window, int64_t from, int64_t to) {
                          kernels.depthwise_window(window, in + from * channels, w, bias, out + to * channels);
                      });
    });
}

// Channels first: the same, plane by plane. Padding is written out as zeros, which is right for finite weights; planes
// of others, and windows that reach too far to be copied, go by the definition.
template <class T, class Definition>
void by_planes(const Problem& p, const Kernels<T>& kernels, bool backwards, const T* in, const T* w, const T* bias,
               T* out, int threads, Definition definition) {
    const Plane plane(p, backwards, kernels.lanes);
    const int64_t planes = p.batch * p.in_channels, taps = p.taps();
    const int64_t in_numbers = backwards ? p.outputs() : p.inputs(), out_numbers = backwards ? p.inputs() : p.outputs();
    std::vector<char> plain(p.in_channels, !plane.fits());
    for (int64_t c = 0; c < p.in_channels; ++c) plain[c] |= !all_finite(w + c * taps, taps);
    const int64_t group = std::max<int64_t>(1, std::min(piece_numbers / out_numbers, planes / 8));
    const int64_t bands = plane.fits() ? plane.bands() : 0;
    const int64_t split = std::max<int64_t>(1, std::min(bands, out_numbers / piece_numbers));
    parallel_for(ceil_div(planes, group) * split, threads, [&](int64_t piece) {
        const int64_t first = piece / split * group, last = std::min(planes, first + group), part = piece % split;
        for (int64_t i = first; i < last && part == 0; ++i)
            if (plain[i % p.in_channels]) definition(i, i % p.in_channels);
        if (!plane.fits()) return;
        Buffer<T> staged(plane.staged_count()), flat(plane.flat_count() * plane.pairs()), weights(taps);
        std::fill_n(staged.data(), plane.staged_count(), T(0));
        for (int64_t b = part * bands / split; b < (part + 1) * bands / split; ++b) {
            const Band band = plane.band(b);
            const std::vector<FlatTaps> all = plane.taps(band);
            for (int64_t i = first; i < last; ++i) {
                const int64_t c = i % p.in_channels;
                if (plain[c]) continue;
                plane.stage(band, in + i * in_numbers, T(0), staged.data(), kernels.split);
                for (size_t pair = 0; pair < all.size(); ++pair) {
                    const FlatTaps& some = all[pair];
                    const int64_t count = static_cast<int64_t>(some.tap.size());
                    for (int64_t t = 0; t < count; ++t) weights[t] = w[c * taps + some.tap[t]];
                    kernels.depthwise_flat({staged.data(), plane.flat_count(band), count, some.offset.data(), nullptr},
                                           weights.data(), bias ? bias[c] : T(0),
                                           flat.data() + static_cast<int64_t>(pair) * plane.flat_count());
                }
                plane.gather(band, flat.data(), out + i * out_numbers, kernels.merge);
            }
        }
    });
}

// total[i] = sum over the chunks of partial[chunk, i], in their order.
template <class T>
void add_chunks(const T* partial, int64_t chunks, int64_t count, T* total, int threads) {
    constexpr int64_t block = 4096;
    parallel_for(ceil_div(count, block), threads, [&](int64_t piece) {
        const int64_t begin = piece * block, end = std::min(count, begin + block);
        std::copy(partial + begin, partial + end, total + begin);
        for (int64_t chunk = 1; chunk < chunks; ++chunk)
            for (int64_t i = begin; i < end; ++i) total[i] += partial[chunk * count + i];
    });
}

// A sample's outputs in rectangles that the second-level cache holds with all of their channels, numbered row by row.
struct Rectangles {
    Rectangles(const Problem& p, int64_t room) {
        const int64_t pixel = p.in_channels * (1 + p.axis[2].stride);
        width = std::min(p.axis[2].output, std::max<int64_t>(32, room / pixel));
        across = ceil_div(p.axis[2].output, width);
        width = ceil_div(p.axis[2].output, across);
        across = ceil_div(p.axis[2].output, width);
        const int64_t row = p.in_channels * width * (1 + p.axis[1].stride * p.axis[2].stride);
        // Enough pixels for each load and store of the sums, no more: rows are read in the order of memory.
        height = std::min({p.axis[1].output, std::max<int64_t>(1, room / row), ceil_div(64, width)});
        down = ceil_div(p.axis[1].output, height);
        height = ceil_div(p.axis[1].output, down);
        down = ceil_div(p.axis[1].output, height);
    }
    int64_t width, across, height, down;
};

// Adds a problem's products to sums (taps, channels), rectangle by rectangle.
template <class T>
class RectangleSums {
  public:
    explicit RectangleSums(const Problem& problem)
        : p(problem),
          reads{outputs_read(p.axis[0]), outputs_read(p.axis[1]), outputs_read(p.axis[2])},
          along(reads[2].residues[0].segments),
          rectangles(p, int64_t{192 << 10} / static_cast<int64_t>(sizeof(T))),
          joined(p.axis[2].kernel == 3 && p.axis[2].dilation == 1 && p.axis[2].stride <= 2) {
        if (joined) along = {{0, p.axis[2].output, 0, 3}};
    }

    int64_t units() const { return p.batch * p.axis[0].output * rectangles.down * rectangles.across; }

    void add(const Kernels<T>& kernels, const T* x, const T* dy, T* sums, int64_t begin, int64_t end) const {
        const int64_t channels = p.in_channels, first = reads[2].residues[0].offset[0];
        std::vector<int64_t> x_at, sum_at;
        for (int64_t unit = begin; unit < end; ++unit) {
            const int64_t left = unit % rectangles.across * rectangles.width;
            const int64_t top = unit / rectangles.across % rectangles.down * rectangles.height;
            const int64_t layer = unit / rectangles.across / rectangles.down, n = layer / p.axis[0].output;
            const Segment depth = reads[0].at(layer % p.axis[0].output);
            for (const Segment& rows : reads[1].residues[0].segments)
                for (const Segment& columns : along) {
                    const int64_t row = std::max(rows.begin, top), column = std::max(columns.begin, left);
                    const int64_t high = std::min(rows.end, top + rectangles.height) - row;
                    const int64_t wide = std::min(columns.end, left + rectangles.width) - column;
                    if (high <= 0 || wide <= 0) continue;
                    x_at.clear();
                    sum_at.clear();
                    for (int64_t i = depth.first; i < depth.last; ++i)
                        for (int64_t j = rows.first; j < rows.last; ++j)
                            for (int64_t k = columns.first; k < columns.last; ++k) {
                                const int64_t from = depth.begin * reads[0].step + reads[0].residues[0].offset[i];
                                x_at.push_back((from * p.axis[1].input + reads[1].residues[0].offset[j]) *
                                                   p.axis[2].input +
                                               reads[2].residues[0].offset[k]);
                                sum_at.push_back((i * p.axis[1].kernel + j) * p.axis[2].kernel + k);
                            }
                    const int64_t from =
                        n * p.inputs() + row * reads[1].step * p.axis[2].input + column * reads[2].step;
                    const int64_t to = (layer * p.axis[1].output + row) * p.axis[2].output + column;
                    kernels.depthwise_sums({x + from * channels, dy + to * channels, sums, channels, high, wide,
                                            reads[1].step * p.axis[2].input, reads[2].step, p.axis[2].output,
                                            static_cast<int64_t>(x_at.size()), x_at.data(), sum_at.data(), joined,
                                            first, -column * reads[2].step, p.axis[2].input - column * reads[2].step});
                }
        }
    }

  private:
    Problem p;
    Reads reads[3];
    std::vector<Segment> along;
    Rectangles rectangles;
    bool joined;
};

// Channels last: all channels of chunks of the rectangles.
template <class T>
void sums_by_windows(const Problem& p, const Kernels<T>& kernels, const T* x, const T* dy, T* dw, int threads) {
    const RectangleSums<T> rectangles(p);
    const int64_t count = p.taps() * p.in_channels, units = rectangles.units();
    const int64_t room = std::max<int64_t>(1, (int64_t{1} << 20) / count);
    const int64_t chunks = std::min({most_chunks, room, units});
    Buffer<T> partial(chunks > 1 ? chunks * count : 0);
    parallel_for(chunks, threads, [&](int64_t chunk) {
        T* sums = chunks > 1 ? partial.data() + chunk * count : dw;
        std::fill_n(sums, count, T(0));
        rectangles.add(kernels, x, dy, sums, chunk * units / chunks, (chunk + 1) * units / chunks);
    });
    if (chunks > 1) add_chunks(partial.data(), chunks, count, dw, threads);
}

// Channels of a block of small images of many channels, whose pixels lie so far apart that they compete for the same
// lines of the caches: a block is copied together first. 0 where that does not pay.
int64_t copied_channels(const Problem& p) {
    const int64_t block = std::min<int64_t>(128, p.in_channels / 16 / 16 * 16);  // sixteen pieces where there can be
    if (p.inputs() + p.outputs() > 128) return 0;                                // larger ones lose by the copy
    return block >= 32 ? block : 0;
}

// from (rows, from_row) to (rows, to_row), the first `count` of each row.
template <class T>
void copy_rows(const T* from, int64_t from_row, int64_t rows, int64_t count, T* to, int64_t to_row) {
    for (int64_t r = 0; r < rows; ++r) std::copy_n(from + r * from_row, count, to + r * to_row);
}

// Channels last: blocks of channels, each over the whole batch.
template <class T>
void sums_by_channels(const Problem& p, const Kernels<T>& kernels, const T* x, const T* dy, T* dw, int threads) {
    const int64_t channels = p.in_channels, block = copied_channels(p);
    parallel_for(ceil_div(channels, block), threads, [&](int64_t piece) {
        Problem part = p;
        part.batch = 1;
        part.in_channels = part.out_channels = part.groups = std::min(block, channels - piece * block);
        const RectangleSums<T> rectangles(part);
        const int64_t width = part.in_channels, first = piece * block;
        Buffer<T> some_x(p.inputs() * width), some_dy(p.outputs() * width), sums(p.taps() * width);
        std::fill_n(sums.data(), p.taps() * width, T(0));
        for (int64_t n = 0; n < p.batch; ++n) {
            copy_rows(x + n * p.inputs() * channels + first, channels, p.inputs(), width, some_x.data(), width);
            copy_rows(dy + n * p.outputs() * channels + first, channels, p.outputs(), width, some_dy.data(), width);
            rectangles.add(kernels, some_x.data(), some_dy.data(), sums.data(), 0, rectangles.units());
        }
        copy_rows(sums.data(), width, p.taps(), width, dw + first, channels);
    });
}

// Channels first: channel by channel over the samples of a chunk.
template <class T>
void sums_by_planes(const Problem& p, const Kernels<T>& kernels, const T* x, const T* dy, T* dw, int threads) {
    const Plane plane(p, false, kernels.lanes);
    const int64_t channels = p.in_channels, taps = p.taps(), lanes = kernels.lanes;
    const int64_t chunks = std::max<int64_t>(1, std::min(p.batch, most_chunks / channels));
    // Channels of a piece: about as many numbers as elsewhere, in at least eight pieces.
    const int64_t numbers = std::max<int64_t>(1, p.batch * std::max(p.inputs(), p.outputs()) / chunks);
    const int64_t group = std::max<int64_t>(1, std::min(4 * piece_numbers / numbers, channels / 8));
    Buffer<T> partial(chunks > 1 ? chunks * channels * taps : 0);
    parallel_for(chunks * ceil_div(channels, group), threads, [&](int64_t piece) {
        const int64_t chunk = piece % chunks, first = piece / chunks * group, last = std::min(channels, first + group);
        const int64_t begin = chunk * p.batch / chunks, end = (chunk + 1) * p.batch / chunks;
        T* totals = chunks > 1 ? partial.data() + chunk * channels * taps : dw;
        Buffer<T> staged(plane.staged_count()), flat(plane.flat_count()), sums(plane.fits() ? taps * lanes : 0);
        std::fill_n(staged.data(), plane.staged_count(), T(0));
        std::vector<T> ordered(taps * lanes), one(taps);
        for (int64_t c = first; c < last; ++c) {
            T* total = totals + c * taps;
            std::fill_n(total, taps, T(0));
            if (plane.fits()) {
                std::fill(ordered.begin(), ordered.end(), T(0));
                for (int64_t n = begin; n < end; ++n)
                    for (int64_t b = 0; b < plane.bands(); ++b) {
                        const Band band = plane.band(b);
                        const FlatTaps some = plane.taps(band)[0];
                        const int64_t count = static_cast<int64_t>(some.tap.size());
                        plane.stage(band, x + (n * channels + c) * p.inputs(), T(0), staged.data(), kernels.split);
                        plane.lay_out(band, dy + (n * channels + c) * p.outputs(), T(0), flat.data());
                        std::fill_n(sums.data(), count * lanes, T(0));
                        kernels.depthwise_flat_sums(
                            {staged.data(), plane.flat_count(band), count, some.offset.data(), nullptr}, flat.data(),
                            sums.data());
                        for (int64_t t = 0; t < count; ++t)
                            for (int64_t v = 0; v < lanes; ++v) ordered[some.tap[t] * lanes + v] += sums[t * lanes + v];
                    }
                for (int64_t t = 0; t < taps; ++t)
                    for (int64_t v = 0; v < lanes; ++v) total[t] += ordered[t * lanes + v];
                // Zeros beside infinities make NaN that is not there: then by the definition.
                if (all_finite(total, taps)) continue;
                std::fill_n(total, taps, T(0));
            }
            for (int64_t n = begin; n < end; ++n) {
                small_grad_weight(one_channel(p, 1), x + (n * channels + c) * p.inputs(),
                                  dy + (n * channels + c) * p.outputs(), one.data());
                for (int64_t t = 0; t < taps; ++t) total[t] += one[t];
            }
        }
    });
    if (chunks > 1) add_chunks(partial.data(), chunks, channels * taps, dw, threads);
}

}  // namespace

bool depthwise_serves(const Problem& p) { return p.groups == p.in_channels && p.groups == p.out_channels; }

template <class T>
void depthwise_forward(const Problem& p, const Kernels<T>& kernels, const T* x, const T* w, const T* bias, T* y,
                       int threads) {
    if (p.batch == 0 || p.outputs() == 0) return;
    if (!by_planes(p)) return by_windows(p, kernels, false, x, w, bias, y, threads);
    by_planes(p, kernels, false, x, w, bias, y, threads, [&](int64_t i, int64_t c) {
        small_forward(one_channel(p, 1), x + i * p.inputs(), w + c * p.taps(), bias ? bias + c : nullptr,
                      y + i * p.outputs());
    });
}

template <class T>
void depthwise_grad_input(const Problem& p, const Kernels<T>& kernels, const T* w, const T* dy, T* dx, int threads) {
    if (p.batch == 0 || p.inputs() == 0) return;
    const T* none = nullptr;
    if (!by_planes(p)) return by_windows(p, kernels, true, dy, w, none, dx, threads);
    by_planes(p, kernels, true, dy, w, none, dx, threads, [&](int64_t i, int64_t c) {
        small_grad_input(one_channel(p, 1), w + c * p.taps(), dy + i * p.outputs(), dx + i * p.inputs());
    });
}

template <class T>
void depthwise_grad_weight(const Problem& p, const Kernels<T>& kernels, const T* x, const T* dy, T* dw, int threads) {
    if (p.batch == 0 || p.outputs() == 0) {
        std::fill_n(dw, p.in_channels * p.taps(), T(0));
        return;
    }
    if (by_planes(p)) return sums_by_planes(p, kernels, x, dy, dw, threads);
    if (copied_channels(p) > 0) return sums_by_channels(p, kernels, x, dy, dw, threads);
    sums_by_windows(p, kernels, x, dy, dw, threads);
}

template void depthwise_forward(const Problem&, const Kernels<float>&, const float*, const float*, const float*, float*,
                                int);
template void depthwise_forward(const Problem&, const Kernels<double>&, const double*, const double*, const double*,
                                double*, int);
template void depthwise_grad_input(const Problem&, const Kernels<float>&, const float*, const float*, float*, int);
template void depthwise_grad_input(const Problem&, const Kernels<double>&, const double*, const double*, double*, int);
template void depthwise_grad_weight(const Problem&, const Kernels<float>&, const float*, const float*, float*, int);
template void depthwise_grad_weight(const Problem&, const Kernels<double>&, const double*, const double*, double*, int);

}  // namespace backlit
