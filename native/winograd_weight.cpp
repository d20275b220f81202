// Winograd's gradient of the weights: F(3x3, 4x4), whose filter is the upstream gradient and whose sum is over tiles.
#include <algorithm>

#include "memory.h"
#include "threads.h"
#include "winograd.h"
#include "winograd_strips.h"

namespace backlit {
namespace {

constexpr int64_t most_tiles = 128;  // transformed at once: enough to repay the sums' way through memory

struct Correlation {
    const Problem& problem;
    const Kernels<float>& kernels;
    Images<const float*> x, dy;
    Strips strips;
    Panels inputs, outputs;  // of one group

    Correlation(const Problem& p, const Kernels<float>& kernels, const float* x, const float* dy)
        : problem(p),
          kernels(kernels),
          x{x, p.in_channels, p.axis[1].input, p.axis[2].input, p.input_strides()},
          dy{dy, p.out_channels, p.axis[1].output, p.axis[2].output, p.output_strides()},
          strips(p.batch, p.axis[1].output, p.axis[2].output),
          inputs(p.group_inputs(), kernels),
          outputs(p.group_outputs(), kernels) {}
};

// Where a panel begins in transformed data of `tiles` tiles: (panels, 36, tiles, width).
int64_t place(const Panels& panels, int64_t panel, int64_t tiles) { return panels.first(panel) * 36 * tiles; }

// One panel of a strip, which `before` tiles of the block come before; the block has room for `tiles` tiles.
void transform(const Correlation& c, bool gradient, int64_t strip, int64_t before, int64_t tiles, int64_t group,
               int64_t panel, float* data) {
    const Panels& panels = gradient ? c.outputs : c.inputs;
    const Images<const float*>& images = gradient ? c.dy : c.x;
    const Strip at = c.strips.at(strip);
    const int64_t width = panels.width(panel);
    const int64_t top = gradient ? 0 : c.problem.axis[1].pad, left = gradient ? 0 : c.problem.axis[2].pad;
    const Strides& s = images.strides;
    const float* end = images.data + c.problem.batch * images.channels * images.height * images.width;
    for (int64_t v = 0; v < panels.used(panel); v += c.kernels.lanes) {
        const int64_t channel = group * panels.channels + panels.first(panel) + v;
        (gradient ? c.kernels.winograd.gradient : c.kernels.winograd.data)(
            {images.at(at.sample, channel), end, s.axis[1], s.axis[2], s.channel, images.height, images.width,
             at.top - top, at.left - left, at.tiles, panels.used(panel) - v,
             data + place(panels, panel, tiles) + before * width + v, width, tiles * width});
    }
}

// sums (36, inputs, outputs of a panel) (+)= the products of one panel of x and one of dy, summed over the tiles.
void multiply(const Correlation& c, const float* x, const float* dy, int64_t room, int64_t tiles, int64_t input,
              int64_t output, float* sums, bool add) {
    const int64_t rows = c.inputs.used(input), a_width = c.inputs.width(input), width = c.outputs.width(output);
    const TileShape<float>& shape = shape_of(c.kernels, width);
    const int64_t groups = ceil_div(rows, shape.rows);
    x += place(c.inputs, input, room);
    dy += place(c.outputs, output, room);
    for (int64_t p = 0; p < 36; ++p) {
        for (int64_t g = 0; g < groups; ++g) {
            const int64_t first = rows * g / groups, count = rows * (g + 1) / groups - first;
            shape.across[count]({x + p * room * a_width + first, dy + p * room * width,
                                 sums + (p * c.inputs.wide + first) * width, 1, a_width, width, width, 1, tiles,
                                 no_offset, no_offset, winograd_zeros, add});
        }
    }
}

// Adds one panel's sums to the gradient or writes them there.
void write(const Correlation& c, int64_t group, int64_t input, int64_t output, const float* sums, float* dw, bool add) {
    const WeightStrides s = c.problem.weight_strides();
    const int64_t rows = c.inputs.used(input), columns = c.outputs.used(output), width = c.outputs.width(output);
    float* to = dw + (group * c.problem.group_outputs() + c.outputs.first(output)) * s.filter +
                c.inputs.first(input) * s.channel;
    const int64_t point = c.inputs.wide * width;
    if (s.filter == 1) {
        c.kernels.winograd.weights({sums, point, width, rows, columns, to, s.channel, s.tap[2], add});
    } else {
        Buffer<float> taps(rows * 9 * width);
        c.kernels.winograd.weights({sums, point, width, rows, width, taps.data(), 9 * width, width, false});
        c.kernels.transpose(taps.data(), width, rows * 9, columns, to, s.filter, add);
    }
}

// Every piece sums over a chunk of all tiles for itself; the chunks' gradients are added in their order.
void correlate_private(const Correlation& c, int64_t chunks, float* dw, int threads) {
    const Problem& p = c.problem;
    const int64_t size = p.out_channels * p.group_inputs() * 9, pairs = c.inputs.count() * c.outputs.count();
    Buffer<float> partial(chunks * size);
    parallel_for(p.groups * chunks, threads, [&](int64_t piece) {
        const int64_t group = piece / chunks, chunk = piece % chunks;
        const int64_t first = c.strips.cut(chunk, chunks), last = c.strips.cut(chunk + 1, chunks);
        const int64_t turns = ceil_div(last - first, std::max<int64_t>(1, most_tiles / c.strips.longest));
        const int64_t room = ceil_div(last - first, turns) * c.strips.longest;
        const int64_t one = 36 * c.inputs.wide * c.outputs.wide;
        Buffer<float> x(36 * room * c.inputs.padded()), dy(36 * room * c.outputs.padded()), sums(pairs * one);
        for (int64_t turn = 0; turn < turns; ++turn) {
            const int64_t begin = first + (last - first) * turn / turns,
                          end = first + (last - first) * (turn + 1) / turns;
            const int64_t before = c.strips.before(begin);
            for (int64_t i = begin; i < end; ++i) {
                for (int64_t panel = 0; panel < c.inputs.count(); ++panel)
                    transform(c, false, i, c.strips.before(i) - before, room, group, panel, x.data());
                for (int64_t panel = 0; panel < c.outputs.count(); ++panel)
                    transform(c, true, i, c.strips.before(i) - before, room, group, panel, dy.data());
            }
            for (int64_t pair = 0; pair < pairs; ++pair) {
                multiply(c, x.data(), dy.data(), room, c.strips.before(end) - before, pair / c.outputs.count(),
                         pair % c.outputs.count(), sums.data() + pair * one, turn > 0);
            }
        }
        for (int64_t pair = 0; pair < pairs; ++pair) {
            write(c, group, pair / c.outputs.count(), pair % c.outputs.count(), sums.data() + pair * one,
                  partial.data() + chunk * size, false);
        }
    });
    constexpr int64_t run = 4096;
    parallel_for(ceil_div(size, run), threads, [&](int64_t piece) {
        const int64_t first = piece * run, last = std::min(size, first + run);
        std::copy(partial.data() + first, partial.data() + last, dw + first);
        for (int64_t chunk = 1; chunk < chunks; ++chunk) {
            const float* from = partial.data() + chunk * size;
            for (int64_t i = first; i < last; ++i) dw[i] += from[i];
        }
    });
}

// Chunk by chunk of all tiles: first the transforms, then every piece adds one panel of x times one of dy to dw.
void correlate_shared(const Correlation& c, float* dw, int threads) {
    const Problem& p = c.problem;
    const int64_t pairs = c.inputs.count() * c.outputs.count(), panels = c.inputs.count() + c.outputs.count();
    const int64_t most = p.group_inputs() + p.group_outputs() > 768 ? most_tiles / 2 : most_tiles;
    const int64_t chunks = std::min(ceil_div(c.strips.tiles(), most), c.strips.count);
    const int64_t room = ceil_div(c.strips.count, chunks) * c.strips.longest;
    Buffer<float> x(36 * room * c.inputs.padded()), dy(36 * room * c.outputs.padded());
    for (int64_t turn = 0; turn < p.groups * chunks; ++turn) {
        const int64_t group = turn / chunks, chunk = turn % chunks;
        const int64_t first = c.strips.cut(chunk, chunks), last = c.strips.cut(chunk + 1, chunks);
        const int64_t before = c.strips.before(first), tiles = c.strips.before(last) - before;
        parallel_for((last - first) * panels, threads, [&](int64_t piece) {
            const int64_t i = first + piece / panels, panel = piece % panels;
            const bool gradient = panel >= c.inputs.count();
            transform(c, gradient, i, c.strips.before(i) - before, room, group,
                      gradient ? panel - c.inputs.count() : panel, gradient ? dy.data() : x.data());
        });
        parallel_for(pairs, threads, [&](int64_t pair) {
            Buffer<float> sums(36 * c.inputs.wide * c.outputs.wide);
            const int64_t input = pair / c.outputs.count(), output = pair % c.outputs.count();
            multiply(c, x.data(), dy.data(), room, tiles, input, output, sums.data(), false);
            write(c, group, input, output, sums.data(), dw, chunk > 0);
        });
    }
}

}  // namespace

void winograd_grad_weight(const Problem& p, const Kernels<float>& kernels, const float* x, const float* dy, float* dw,
                          int threads) {
    const Correlation c(p, kernels, x, dy);
    const int64_t chunks = private_chunks(c.strips, p.group_inputs(), p.group_outputs());
    if (c.strips.count == 0) {
        std::fill_n(dw, p.out_channels * p.group_inputs() * 9, 0.f);
    } else if (chunks) {
        correlate_private(c, chunks, dw, threads);
    } else {
        correlate_shared(c, dw, threads);
    }
}

}  // namespace backlit
