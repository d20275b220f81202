// Winograd's forward pass and gradient of the input: F(4x4, 3x3), which differ in their weights and pads alone.
#include "winograd.h"

#include <vector>

#include "memory.h"
#include "threads.h"
#include "winograd_strips.h"

namespace backlit {
namespace {

// Weights of one group as (lane, step, tap): the lanes are channels of the result, the steps those summed over.
struct Filters {
    const float *data, *end;
    int64_t lane, step, tap;
    int64_t group;  // from one group to the next
    bool flipped;
};

// One convolution: result position o reads source positions o - top + 0, 1, 2 (likewise to the left).
struct Convolution {
    int64_t batch, groups;
    Images<const float*> source;
    Images<float*> result;
    int64_t top, left;
    Filters filters;
    const float* bias;  // of all channels of the result, or null

    int64_t steps() const { return source.channels / groups; }
    int64_t lanes() const { return result.channels / groups; }
    const float* end() const { return source.data + batch * source.channels * source.height * source.width; }
};

constexpr int64_t filter_block = 64;                     // steps whose weights are gathered at once
constexpr int64_t gathered_rows = filter_block * 9 + 7;  // and what a square of 16 writes past the last nine taps

// Weights `first` to `last` of one panel, transformed: (36, last - first, width), the points `point` apart.
void transform_weights(const Kernels<float>& kernels, const Filters& f, const float* w, int64_t used, int64_t width,
                       int64_t first, int64_t last, float* gathered, float* result, int64_t point) {
    const WinogradKernels<float>& winograd = kernels.winograd;
    if (used < width) std::fill_n(gathered, filter_block * 9 * width, 0.f);
    for (int64_t s = first; s < last; s += filter_block) {
        const int64_t count = std::min(filter_block, last - s);
        const float* from = w + s * f.step;
        if (f.lane == 1) {
            for (int64_t r = 0; r < count; ++r)
                for (int64_t t = 0; t < 9; ++t)
                    std::copy_n(from + r * f.step + t * f.tap, used, gathered + (r * 9 + t) * width);
        } else if (f.step == 1) {
            for (int64_t t = 0; t < 9; ++t)
                kernels.transpose(from + t * f.tap, f.lane, used, count, gathered + t * width, 9 * width, false);
        } else if (f.step == 9) {
            kernels.transpose(from, f.lane, used, 9 * count, gathered, width, false);
        } else {
            // Whole squares where the array goes on for so long: what is written past the nine taps belongs to the next
            // step, which overwrites it.
            const int64_t squares = ceil_div(9, kernels.lanes) * kernels.lanes;
            for (int64_t r = 0; r < count; ++r, from += f.step) {
                const int64_t columns = f.end - from >= (used - 1) * f.lane + squares ? squares : 9;
                kernels.transpose(from, f.lane, used, columns, gathered + r * 9 * width, width, false);
            }
        }
        winograd.filters(gathered, count, width, f.flipped, result + (s - first) * width, point);
    }
}

// All channels from `first` to `last` of a strip, transformed to data[point * data_point + tile * data_tile + channel].
void transform_source(const Convolution& c, const Kernels<float>& kernels, const Strip& strip, int64_t group,
                      int64_t first, int64_t last, float* data, int64_t data_tile, int64_t data_point) {
    for (int64_t i = first; i < last; i += kernels.lanes) {
        const Strides& s = c.source.strides;
        kernels.winograd.data({c.source.at(strip.sample, group * c.steps() + i), c.end(), s.axis[1], s.axis[2],
                               s.channel, c.source.height, c.source.width, strip.top - c.top, strip.left - c.left,
                               strip.tiles, last - i, data + i, data_tile, data_point});
    }
}

// points (tiles, 36, width) (+)= data (36, tiles, depth) times weights (36, depth, width).
void multiply(const TileShape<float>& shape, const float* data, int64_t data_tile, int64_t data_point, int64_t tiles,
              const float* weights, int64_t weights_point, int64_t depth, float* points, bool add) {
    const int64_t width = shape.columns, groups = ceil_div(tiles, shape.rows);
    for (int64_t p = 0; p < 36; ++p) {
        for (int64_t g = 0; g < groups; ++g) {
            const int64_t first = tiles * g / groups, rows = tiles * (g + 1) / groups - first;
            shape.along[rows]({data + p * data_point + first * data_tile, weights + p * weights_point,
                               points + first * 36 * width + p * width, data_tile, 1, width, 36 * width, 1, depth,
                               no_offset, no_offset, winograd_zeros, add});
        }
    }
}

// The strips from `first` to `last` of one panel, from points (tiles, 36, width) to the result.
void write_result(const Convolution& c, const Kernels<float>& kernels, const Strips& strips, int64_t first,
                  int64_t last, int64_t channel, int64_t used, int64_t width, const float* points) {
    const Strides& s = c.result.strides;
    alignas(64) float bias[64] = {};
    if (c.bias) std::copy_n(c.bias + channel, used, bias);
    for (int64_t i = first; i < last; ++i) {
        const Strip strip = strips.at(i);
        const float* from = points + (strips.before(i) - strips.before(first)) * 36 * width;
        for (int64_t v = 0; v < used; v += kernels.lanes) {
            kernels.winograd.result({from + v, 36 * width, width, bias + v, c.result.at(strip.sample, channel + v),
                                     s.axis[1], s.axis[2], s.channel, c.result.height, c.result.width, strip.top,
                                     strip.left, strip.tiles, used - v});
        }
    }
}

constexpr int64_t depth_block = 64;        // steps whose transformed weights are made at once where they are shared
constexpr int64_t kept_weights = 4000000;  // numbers in transformed weights that are held at once

// Groups `first_group` and `groups` in all.
void convolve_private(const Convolution& c, const Kernels<float>& kernels, const Strips& strips, const Cut& cut,
                      int64_t first_group, int64_t groups, int threads) {
    const int64_t depth = c.steps();
    const Panels panels(c.lanes(), kernels);
    const int64_t per_group = 36 * (depth * panels.padded() + 16 * panels.count());
    const auto place = [&](int64_t panel) { return 36 * (depth * panels.first(panel) + 16 * panel); };
    Buffer<float> weights(groups * per_group);
    const int64_t parts = ceil_div(depth, filter_block);
    parallel_for(groups * panels.count() * parts, threads, [&](int64_t piece) {
        const int64_t group = piece / parts / panels.count(), panel = piece / parts % panels.count();
        const int64_t first = piece % parts * filter_block, last = std::min(depth, first + filter_block);
        const int64_t width = panels.width(panel);
        Buffer<float> gathered(gathered_rows * width);
        transform_weights(
            kernels, c.filters,
            c.filters.data + (first_group + group) * c.filters.group + panels.first(panel) * c.filters.lane,
            panels.used(panel), width, first, last, gathered.data(),
            weights.data() + group * per_group + place(panel) + first * width, depth * width + 16);
    });
    const int64_t data_tile = ceil_div(depth, kernels.lanes) * kernels.lanes + 16, data_point = cut.tiles * data_tile;
    parallel_for(groups * cut.blocks, threads, [&](int64_t piece) {
        const int64_t group = piece / cut.blocks, block = piece % cut.blocks;
        const int64_t first = strips.cut(block, cut.blocks), last = strips.cut(block + 1, cut.blocks);
        Buffer<float> data(36 * data_point), points(cut.tiles * 36 * panels.wide);
        for (int64_t i = first; i < last; ++i) {
            transform_source(c, kernels, strips.at(i), first_group + group, 0, depth,
                             data.data() + (strips.before(i) - strips.before(first)) * data_tile, data_tile,
                             data_point);
        }
        for (int64_t panel = 0; panel < panels.count(); ++panel) {
            const int64_t width = panels.width(panel);
            multiply(shape_of(kernels, width), data.data(), data_tile, data_point,
                     strips.before(last) - strips.before(first), weights.data() + group * per_group + place(panel),
                     depth * width + 16, depth, points.data(), false);
            write_result(c, kernels, strips, first, last, (first_group + group) * c.lanes() + panels.first(panel),
                         panels.used(panel), width, points.data());
        }
    });
}

void convolve_shared(const Convolution& c, const Kernels<float>& kernels, const Strips& strips, const Cut& cut,
                     int threads) {
    const int64_t depth = c.steps();
    const Panels panels(c.lanes(), kernels);
    const int64_t data_tile = ceil_div(depth, kernels.lanes) * kernels.lanes + 16, data_point = cut.tiles * data_tile;
    Buffer<float> data(36 * data_point);
    for (int64_t turn = 0; turn < c.groups * cut.blocks; ++turn) {
        const int64_t group = turn / cut.blocks, block = turn % cut.blocks;
        const int64_t first = strips.cut(block, cut.blocks), last = strips.cut(block + 1, cut.blocks);
        const int64_t tiles = strips.before(last) - strips.before(first), parts = ceil_div(depth, depth_block);
        parallel_for((last - first) * parts, threads, [&](int64_t piece) {
            const int64_t i = first + piece / parts, channel = piece % parts * depth_block;
            transform_source(c, kernels, strips.at(i), group, channel, std::min(depth, channel + depth_block),
                             data.data() + (strips.before(i) - strips.before(first)) * data_tile, data_tile,
                             data_point);
        });
        parallel_for(panels.count(), threads, [&](int64_t panel) {
            const int64_t width = panels.width(panel), weights_point = depth_block * width + 16;
            Buffer<float> gathered(gathered_rows * width), weights(36 * weights_point), points(tiles * 36 * width);
            for (int64_t s = 0; s < depth; s += depth_block) {
                const int64_t end = std::min(depth, s + depth_block);
                transform_weights(kernels, c.filters,
                                  c.filters.data + group * c.filters.group + panels.first(panel) * c.filters.lane,
                                  panels.used(panel), width, s, end, gathered.data(), weights.data(), weights_point);
                multiply(shape_of(kernels, width), data.data() + s, data_tile, data_point, tiles, weights.data(),
                         weights_point, end - s, points.data(), s > 0);
            }
            write_result(c, kernels, strips, first, last, group * c.lanes() + panels.first(panel), panels.used(panel),
                         width, points.data());
        });
    }
}

void convolve(const Convolution& c, const Kernels<float>& kernels, int threads) {
    const Strips strips(c.batch, c.result.height, c.result.width);
    if (strips.count == 0) return;
    const Cut cut = cut_of(strips, c.steps(), c.lanes());
    if (cut.shared) return convolve_shared(c, kernels, strips, cut, threads);
    const int64_t at_once = std::clamp<int64_t>(kept_weights / (36 * c.steps() * c.lanes()), 1, c.groups);
    for (int64_t group = 0; group < c.groups; group += at_once)
        convolve_private(c, kernels, strips, cut, group, std::min(at_once, c.groups - group), threads);
}

}  // namespace

void winograd_forward(const Problem& p, const Kernels<float>& kernels, const float* x, const float* w,
                      const float* bias, float* y, int threads) {
    const WeightStrides ws = p.weight_strides();
    convolve({p.batch,
              p.groups,
              {x, p.in_channels, p.axis[1].input, p.axis[2].input, p.input_strides()},
              {y, p.out_channels, p.axis[1].output, p.axis[2].output, p.output_strides()},
              p.axis[1].pad,
              p.axis[2].pad,
              {w, w + p.out_channels * p.group_inputs() * 9, ws.filter, ws.channel, ws.tap[2],
               p.group_outputs() * ws.filter, false},
              bias},
             kernels, threads);
}

void winograd_grad_input(const Problem& p, const Kernels<float>& kernels, const float* w, const float* dy, float* dx,
                         int threads) {
    const WeightStrides ws = p.weight_strides();
    convolve({p.batch,
              p.groups,
              {dy, p.out_channels, p.axis[1].output, p.axis[2].output, p.output_strides()},
              {dx, p.in_channels, p.axis[1].input, p.axis[2].input, p.input_strides()},
              2 - p.axis[1].pad,
              2 - p.axis[2].pad,
              {w, w + p.out_channels * p.group_inputs() * 9, ws.channel, ws.filter, ws.tap[2],
               p.group_outputs() * ws.filter, true},
              nullptr},
             kernels, threads);
}

}  // namespace backlit
