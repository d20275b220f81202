#include "direct.h"

#include <algorithm>

#include "memory.h"
#include "panels.h"
#include "threads.h"

namespace backlit {
namespace {

constexpr int64_t source_bytes = 256 << 10;  // of a block's source: half of what a second cache has beside a panel
constexpr int64_t work_of_piece = 1 << 20;   // multiplications below which handing out a piece of work does not pay
constexpr int64_t wanted_pieces = 32;        // for threads to share evenly

// The weights of a gather in panels: [group][panel][tap][input][column of the panel], taps by ascending offset.
template <class T>
class PackedWeights {
  public:
    PackedWeights(const Gather& g, const std::vector<Panel<T>>& panels, const T* w, int threads)
        : rows_(g.taps() * g.inputs), width_(width_of(panels)), buffer_(g.groups * rows_ * width_) {
        const auto count = static_cast<int64_t>(panels.size());
        const auto heights = static_cast<int64_t>(g.axis[1].taps.size()),
                   widths = static_cast<int64_t>(g.axis[2].taps.size());
        const bool small = g.groups * rows_ * width_ < 1 << 15;
        parallel_for(g.groups * count, small ? 1 : threads, [&](int64_t piece) {
            const int64_t group = piece / count;
            const Panel<T>& panel = panels[piece % count];
            T* to = data(group, panel);
            for (int64_t tap = 0; tap < g.taps(); ++tap) {
                const Tap &a = g.axis[0].taps[tap / widths / heights], &b = g.axis[1].taps[tap / widths % heights],
                          &c = g.axis[2].taps[tap % widths];
                const T* from = w + group * g.weight_group + a.number * g.weight_tap[0] + b.number * g.weight_tap[1] +
                                c.number * g.weight_tap[2] + panel.first * g.weight_output;
                const int64_t columns = panel.shape->columns;
                copy_matrix(from, g.weight_input, g.weight_output, to, columns, 1, g.inputs, panel.columns);
                if (panel.columns < columns)
                    for (int64_t i = 0; i < g.inputs; ++i)
                        std::fill(to + i * columns + panel.columns, to + (i + 1) * columns, T(0));
                to += g.inputs * columns;
            }
        });
    }

    T* data(int64_t group, const Panel<T>& panel) const {
        return buffer_.data() + rows_ * (group * width_ + panel.start);
    }

  private:
    int64_t rows_, width_;
    Buffer<T> buffer_;
};

// Taps of a rectangle of positions, as the segments of a micro-tile.
struct Segments {
    std::vector<int64_t> source, weight;  // offsets
    int64_t steps = 0;
};

// One block of one group: its source as the micro-tile reads it, and the tiles.
template <class T>
class BlockGather {
  public:
    BlockGather(const Gather& g, const Block& block, const View<const T>& source, const View<T>& result, const T* start)
        : g_(g), block_(block), source_(source), result_(result), start_(start) {}

    // The result's channels of a panel, in all positions of the block.
    void compute(const Panel<T>& panel, const T* weights) const {
        for (const Interval& a : g_.axis[0].intervals)
            for (const Interval& b : g_.axis[1].intervals)
                for (const Interval& c : g_.axis[2].intervals) rectangle(panel, weights, a, b, c);
    }

  private:
    static Range common(Range a, Range b) { return {std::max(a.begin, b.begin), std::min(a.end, b.end)}; }

    void rectangle(const Panel<T>& panel, const T* weights, const Interval& a, const Interval& b,
                   const Interval& c) const {
        const Range ranges[4] = {block_.samples, common(block_.positions[0], a.positions),
                                 common(block_.positions[1], b.positions), common(block_.positions[2], c.positions)};
        for (const Range& range : ranges)
            if (range.size() <= 0) return;
        const Segments segments = segments_of(panel, a.taps, b.taps, c.taps);

        // The tile's rows run along the axis that takes the fewest tiles.
        int along = 3;
        int64_t fewest = INT64_MAX;
        for (int i = 3; i >= 0; --i) {
            int64_t tiles = (ranges[i].size() + panel.shape->rows - 1) / panel.shape->rows;
            for (int j = 0; j < 4; ++j)
                if (j != i) tiles *= ranges[j].size();
            if (tiles < fewest) fewest = tiles, along = i;
        }
        Tile<T> tile = {};
        tile.b = weights;
        tile.a_row = along == 0 ? source_.strides.batch : g_.axis[along - 1].reach * source_.strides.axis[along - 1];
        tile.a_step = 1;
        tile.b_step = panel.shape->columns;
        tile.c_row = along == 0 ? result_.strides.batch : result_.strides.axis[along - 1];
        tile.segments = static_cast<int64_t>(segments.source.size());
        tile.steps = segments.steps;
        tile.a_offset = segments.source.data();
        tile.b_offset = segments.weight.data();
        tile.init = start_ + panel.start;

        const int64_t rows = ranges[along].size();
        const int64_t groups = (rows + panel.shape->rows - 1) / panel.shape->rows;
        Range outer[4] = {ranges[0], ranges[1], ranges[2], ranges[3]};
        outer[along].end = outer[along].begin + 1;
        for (int64_t n = outer[0].begin; n < outer[0].end; ++n)
            for (int64_t i = outer[1].begin; i < outer[1].end; ++i)
                for (int64_t j = outer[2].begin; j < outer[2].end; ++j)
                    for (int64_t k = outer[3].begin; k < outer[3].end; ++k) {
                        const T* from = source_.at(n, g_.axis[0].reach * i, g_.axis[1].reach * j, g_.axis[2].reach * k);
                        T* to = result_.at(n, i, j, k) + panel.first * result_.strides.channel;
                        for (int64_t group = 0; group < groups; ++group) {
                            const int64_t first = rows * group / groups, last = rows * (group + 1) / groups;
                            tile.a = from + first * tile.a_row;
                            tile.c = to + first * tile.c_row;
                            run(panel, tile, last - first);
                        }
                    }
    }

    // A tile, by way of a scratch tile where the panel has fewer columns than the shape or they are not neighbours.
    void run(const Panel<T>& panel, Tile<T>& tile, int64_t rows) const {
        const TileKernel<T> kernel = panel.shape->along[rows];
        if (panel.columns == panel.shape->columns && result_.strides.channel == 1) return kernel(tile);
        alignas(64) T scratch[most_rows * 64];
        T* to = tile.c;
        const int64_t row = tile.c_row;
        tile.c = scratch;
        tile.c_row = panel.shape->columns;
        kernel(tile);
        copy_matrix(scratch, tile.c_row, 1, to, row, result_.strides.channel, rows, panel.columns);
        tile.c_row = row;
    }

    Segments segments_of(const Panel<T>& panel, Range a, Range b, Range c) const {
        Segments s;
        const int64_t inputs = g_.inputs, columns = panel.shape->columns;
        const auto heights = static_cast<int64_t>(g_.axis[1].taps.size()),
                   widths = static_cast<int64_t>(g_.axis[2].taps.size());
        const std::vector<Tap>& last = g_.axis[2].taps;
        // Neighbouring taps whose channels lie one after the other in the source are one run.
        const bool run = c.size() > 0 && source_.strides.axis[2] == inputs &&
                         last[c.end - 1].offset - last[c.begin].offset == c.size() - 1;
        s.steps = run ? c.size() * inputs : inputs;
        for (int64_t i = a.begin; i < a.end; ++i)
            for (int64_t j = b.begin; j < b.end; ++j)
                for (int64_t k = c.begin; k < (run ? c.begin + 1 : c.end); ++k) {
                    s.source.push_back(g_.axis[0].taps[i].offset * source_.strides.axis[0] +
                                       g_.axis[1].taps[j].offset * source_.strides.axis[1] +
                                       last[k].offset * source_.strides.axis[2]);
                    s.weight.push_back(((i * heights + j) * widths + k) * inputs * columns);
                }
        return s;
    }

    const Gather& g_;
    const Block& block_;
    const View<const T>& source_;
    const View<T>& result_;
    const T* start_;
};

template <class T>
void gather(const Gather& g, const Kernels<T>& kernels, const T* source, const T* w, const T* bias, T* result,
            int threads) {
    const std::vector<Panel<T>> panels = panels_of(kernels, g.outputs);
    const PackedWeights<T> weights(g, panels, w, threads);
    const int64_t width = width_of(panels);
    Buffer<T> starts(g.groups * width);
    std::fill_n(starts.data(), g.groups * width, T(0));
    if (bias != nullptr)
        for (int64_t group = 0; group < g.groups; ++group)
            for (const Panel<T>& panel : panels)
                std::copy_n(bias + group * g.outputs + panel.first, panel.columns,
                            starts.data() + group * width + panel.start);

    const int64_t reach = g.axis[0].reach * g.axis[1].reach * g.axis[2].reach;
    const int64_t depth = g.taps() * g.inputs;  // of the sum
    const int64_t fitting = source_bytes / static_cast<int64_t>(sizeof(T)) / (g.inputs * reach);
    const int64_t all = g.batch * g.axis[0].positions() * g.axis[1].positions() * g.axis[2].positions();
    const int64_t worthwhile = work_of_piece / (depth * g.outputs) + 1;
    const std::vector<Block> blocks =
        blocks_of(g, std::min(std::max(fitting, int64_t{28}), std::max(all / wanted_pieces, worthwhile)));
    const auto count = static_cast<int64_t>(blocks.size());
    // Where there are few blocks, their panels are shared out too.
    const int64_t shares = std::clamp<int64_t>(wanted_pieces / 2 / std::max<int64_t>(count * g.groups, 1), 1,
                                               static_cast<int64_t>(panels.size()));
    const bool stage = g.source.channel != 1 || (g.outputs >= 32 && collides<T>(g.source.axis[2] * g.axis[2].reach));
    View<T> view = {result, 0, g.result};
    for (int i = 0; i < 3; ++i) {
        view.origin += g.axis[i].start * g.result.axis[i];
        view.strides.axis[i] *= g.axis[i].step;
    }
    parallel_for(g.groups * count * shares, threads, [&](int64_t piece) {
        const int64_t share = piece % shares, group = piece / shares / count;
        const Block& block = blocks[piece / shares % count];
        const auto compute = [&](const View<const T>& from) {
            const View<T> to = {result, view.origin + group * g.outputs * g.result.channel, view.strides};
            const BlockGather<T> tiles(g, block, from, to, starts.data() + group * width);
            const auto total = static_cast<int64_t>(panels.size());
            for (int64_t i = total * share / shares; i < total * (share + 1) / shares; ++i)
                tiles.compute(panels[i], weights.data(group, panels[i]));
        };
        if (stage) {
            const Staged<T> staged(g, block, source, group);
            compute(staged.view());
        } else {
            compute({source, group * g.inputs, g.source});
        }
    });
}

}  // namespace

template <class T>
void direct_forward(const Problem& problem, const Kernels<T>& kernels, const T* x, const T* w, const T* bias, T* y,
                    int threads) {
    gather(forward_gather(merged(problem)), kernels, x, w, bias, y, threads);
}

template <class T>
void direct_grad_input(const Problem& problem, const Kernels<T>& kernels, const T* w, const T* dy, T* dx, int threads) {
    const Problem p = merged(problem);
    const std::vector<Gather> gathers = gradient_gathers(p);
    int64_t reached = 0;
    for (const Gather& g : gathers) reached += g.axis[0].positions() * g.axis[1].positions() * g.axis[2].positions();
    if (reached < p.inputs()) {
        const int64_t size = p.batch * p.in_channels * p.inputs(), parts = size / (1 << 18) + 1;
        parallel_for(parts, threads, [&](int64_t i) {
            std::fill(dx + size / parts * i, i + 1 < parts ? dx + size / parts * (i + 1) : dx + size, T(0));
        });
    }
    for (const Gather& g : gathers) gather(g, kernels, dy, w, static_cast<const T*>(nullptr), dx, threads);
}

template void direct_forward(const Problem&, const Kernels<float>&, const float*, const float*, const float*, float*,
                             int);
template void direct_forward(const Problem&, const Kernels<double>&, const double*, const double*, const double*,
                             double*, int);
template void direct_grad_input(const Problem&, const Kernels<float>&, const float*, const float*, float*, int);
template void direct_grad_input(const Problem&, const Kernels<double>&, const double*, const double*, double*, int);

}  // namespace backlit
