#include "direct.h"

#include <algorithm>

#include "memory.h"
#include "panels.h"
#include "staged.h"
#include "threads.h"

namespace backlit {
namespace {

constexpr int64_t source_bytes = 256 << 10;  // of a block's source: half of what a second cache has beside a panel
constexpr int64_t weight_bytes = 384 << 10;  // of the panels that a block is multiplied with at a time
constexpr int64_t work_of_piece = 1 << 19;   // multiplications below which handing out a piece of work does not pay
constexpr int64_t wanted_pieces = 32;        // for threads to share evenly

// The weights of a gather in panels: [group][panel][tap][input][column of the panel], taps by ascending offset.
template <class T>
class PackedWeights {
  public:
    PackedWeights(const Kernels<T>& kernels, const Gather& g, const std::vector<Panel<T>>& panels, const T* w,
                  int threads)
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
                copy_matrix(kernels, from, g.weight_input, g.weight_output, to, columns, 1, g.inputs, panel.columns);
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

// One block of one group: the micro-tiles of some panels in all positions of the block.
template <class T>
class BlockGather {
  public:
    // The result has its channels side by side. `whole`: with room for all columns of the panels, one after the other.
    BlockGather(const Kernels<T>& kernels, const Gather& g, const Block& block, const View<const T>& source,
                const View<T>& result, const PackedWeights<T>& weights, int64_t group, const T* start, bool whole)
        : kernels_(kernels),
          g_(g),
          block_(block),
          source_(source),
          result_(result),
          weights_(weights),
          group_(group),
          start_(start),
          whole_(whole) {}

    void compute(const Panel<T>* first, const Panel<T>* last) {
        for (const Interval& a : g_.axis[0].intervals)
            for (const Interval& b : g_.axis[1].intervals)
                for (const Interval& c : g_.axis[2].intervals) rectangle(first, last, a, b, c);
    }

  private:
    // The positions of the block that read at the same taps, in tiles whose rows run along the axis that needs fewest.
    void rectangle(const Panel<T>* first, const Panel<T>* last, const Interval& a, const Interval& b,
                   const Interval& c) {
        const Range ranges[4] = {block_.samples, common(block_.positions[0], a.positions),
                                 common(block_.positions[1], b.positions), common(block_.positions[2], c.positions)};
        int64_t positions = 1;
        for (const Range& range : ranges) {
            if (range.size() <= 0) return;
            positions *= range.size();
        }
        const int64_t most = first->shape->rows;  // the widest panel comes first, and has the fewest rows
        int along = 3;
        int64_t fewest = INT64_MAX;
        for (int i = 3; i >= 0; --i) {
            const int64_t tiles = positions / ranges[i].size() * ((ranges[i].size() + most - 1) / most);
            if (tiles < fewest) fewest = tiles, along = i;
        }
        Tile<T> tile = {};
        tile.a_row = along == 0 ? source_.strides.batch : g_.axis[along - 1].reach * source_.strides.axis[along - 1];
        tile.a_step = 1;
        tile.c_row = along == 0 ? result_.strides.batch : result_.strides.axis[along - 1];
        sources_.clear();
        weight_rows_.clear();
        weights_at_.clear();
        tile.steps = find_segments(a.taps, b.taps, c.taps);
        tile.segments = static_cast<int64_t>(sources_.size());
        tile.a_offset = sources_.data();
        for (const Panel<T>* panel = first; panel < last; ++panel)
            for (int64_t row : weight_rows_) weights_at_.push_back(row * panel->shape->columns);

        const int64_t rows = ranges[along].size(), groups = (rows + most - 1) / most;
        Range outer[4] = {ranges[0], ranges[1], ranges[2], ranges[3]};
        outer[along].end = outer[along].begin + 1;
        for (int64_t n = outer[0].begin; n < outer[0].end; ++n)
            for (int64_t i = outer[1].begin; i < outer[1].end; ++i)
                for (int64_t j = outer[2].begin; j < outer[2].end; ++j)
                    for (int64_t k = outer[3].begin; k < outer[3].end; ++k) {
                        const T* from = source_.at(n, g_.axis[0].reach * i, g_.axis[1].reach * j, g_.axis[2].reach * k);
                        T* to = result_.at(n, i, j, k);
                        for (int64_t group = 0; group < groups; ++group) {
                            const int64_t begin = rows * group / groups, end = rows * (group + 1) / groups;
                            tile.a = from + begin * tile.a_row;
                            if (tile.segments == 1)
                                fetch(from + end * tile.a_row, tile, rows * (group + 2) / groups - end);
                            for (const Panel<T>* panel = first; panel < last; ++panel) {
                                tile.c =
                                    to + begin * tile.c_row + (whole_ ? panel->start - first->start : panel->first);
                                tile.b_offset = weights_at_.data() + (panel - first) * tile.segments;
                                run(*panel, tile, end - begin);
                            }
                        }
                    }
    }

    // Ask for the next tile's part of the source, which no later tap would bring nearer.
    static void fetch(const T* from, const Tile<T>& tile, int64_t rows) {
        constexpr int64_t line = alignment / sizeof(T);
        for (int64_t m = 0; m < std::min<int64_t>(rows, most_rows); ++m)
            for (int64_t i = 0; i < tile.steps; i += line) __builtin_prefetch(from + m * tile.a_row + i, 0, 2);
    }

    // A tile, by way of a scratch tile where the result has no room for the columns that the panel lacks.
    void run(const Panel<T>& panel, Tile<T>& tile, int64_t rows) const {
        const TileKernel<T> kernel = panel.shape->along[rows];
        tile.b = weights_.data(group_, panel);
        tile.b_step = panel.shape->columns;
        tile.init = start_ + panel.start;
        if (whole_ || panel.columns == panel.shape->columns) return kernel(tile);
        alignas(64) T scratch[most_rows * 64];
        T* to = tile.c;
        const int64_t row = tile.c_row;
        tile.c = scratch;
        tile.c_row = panel.shape->columns;
        kernel(tile);
        kernels_.copy(scratch, tile.c_row, rows, panel.columns, to, row);
        tile.c_row = row;
    }

    // Offsets in the source, and rows of the packed weights, of the taps in ranges; returns the steps of each.
    int64_t find_segments(Range a, Range b, Range c) {
        const std::vector<Tap>& last = g_.axis[2].taps;
        const auto heights = static_cast<int64_t>(g_.axis[1].taps.size()), widths = static_cast<int64_t>(last.size());
        // Neighbouring taps whose channels lie one after the other in the source are one run.
        const bool run = c.size() > 0 && source_.strides.axis[2] == g_.inputs &&
                         last[c.end - 1].offset - last[c.begin].offset == c.size() - 1;
        for (int64_t i = a.begin; i < a.end; ++i)
            for (int64_t j = b.begin; j < b.end; ++j)
                for (int64_t k = c.begin; k < (run ? c.begin + 1 : c.end); ++k) {
                    sources_.push_back(g_.axis[0].taps[i].offset * source_.strides.axis[0] +
                                       g_.axis[1].taps[j].offset * source_.strides.axis[1] +
                                       last[k].offset * source_.strides.axis[2]);
                    weight_rows_.push_back(((i * heights + j) * widths + k) * g_.inputs);
                }
        return run ? c.size() * g_.inputs : g_.inputs;
    }

    const Kernels<T>& kernels_;
    const Gather& g_;
    const Block& block_;
    const View<const T>& source_;
    const View<T>& result_;
    const PackedWeights<T>& weights_;
    const int64_t group_;
    const T* start_;
    const bool whole_;
    // Of the rectangle at hand; kept, as there may be many small ones.
    std::vector<int64_t> sources_, weight_rows_, weights_at_;
};

// One gather over all blocks, groups and panels.
template <class T>
class Product {
  public:
    Product(const Gather& g, const Kernels<T>& kernels, const T* w, const T* bias, int threads)
        : g_(g),
          kernels_(kernels),
          panels_(panels_of(kernels, g.outputs)),
          width_(width_of(panels_)),
          weights_(kernels, g, panels_, w, threads),
          starts_(g.groups * width_) {
        std::fill_n(starts_.data(), g.groups * width_, T(0));
        if (bias == nullptr) return;
        for (int64_t group = 0; group < g.groups; ++group)
            for (const Panel<T>& panel : panels_)
                std::copy_n(bias + group * g.outputs + panel.first, panel.columns,
                            starts_.data() + group * width_ + panel.start);
    }

    void compute(const T* source, T* result, int threads) const {
        const std::vector<Block> blocks = blocks_of(g_, positions_of_block());
        const auto count = static_cast<int64_t>(blocks.size()), panels = static_cast<int64_t>(panels_.size());
        // Where there are few blocks, their panels are shared out too.
        const int64_t shares =
            std::clamp<int64_t>(wanted_pieces / 2 / std::max<int64_t>(count * g_.groups, 1), 1, panels);
        const bool stage =
            g_.source.channel != 1 || (g_.outputs >= 32 && collides<T>(g_.source.axis[2] * g_.axis[2].reach));
        parallel_for(g_.groups * count * shares, threads, [&](int64_t piece) {
            const int64_t share = piece % shares, group = piece / shares / count;
            const Block& block = blocks[piece / shares % count];
            const Range mine = {panels * share / shares, panels * (share + 1) / shares};
            if (stage) {
                const Staged<T> staged(kernels_, g_, block, source, group);
                block_of(staged.gather(), block, staged.view(), group, mine, result);
            } else {
                block_of(g_, block, {source, group * g_.inputs, g_.source}, group, mine, result);
            }
        });
    }

  private:
    int64_t positions_of_block() const {
        int64_t footprint = g_.inputs;  // numbers of the source for a position
        for (const GatherAxis& axis : g_.axis)
            footprint *= by_tap(axis, axis.positions()) ? static_cast<int64_t>(axis.taps.size()) : axis.reach;
        const int64_t bytes = footprint * static_cast<int64_t>(sizeof(T));
        const int64_t fitting =
            std::max({source_bytes / bytes, std::min<int64_t>(most_rows, 16 * source_bytes / bytes), int64_t{1}});
        const int64_t sample = g_.axis[0].positions() * g_.axis[1].positions() * g_.axis[2].positions();
        const int64_t worthwhile = work_of_piece / (depth() * g_.outputs) + 1;
        const int64_t positions = std::min(fitting, std::max(g_.batch * sample / wanted_pieces, worthwhile));
        // Where borders leave only short rows, the tiles' rows run along the samples, so a block needs some of them.
        int64_t longest = 0;
        for (const Interval& interval : g_.axis[2].intervals) longest = std::max(longest, interval.positions.size());
        return longest < most_rows ? std::max(positions, std::min(2 * fitting, 8 * sample)) : positions;
    }

    // Some panels of a block, as many at a time as stay in the second cache with the block.
    void block_of(const Gather& g, const Block& block, const View<const T>& source, int64_t group, Range panels,
                  T* result) const {
        View<T> to = {result, group * g.outputs * g.result.channel, g.result};
        for (int i = 0; i < 3; ++i) {
            to.origin += g.axis[i].start * g.result.axis[i];
            to.strides.axis[i] *= g.axis[i].step;
        }
        const bool apart = g.result.channel != 1;
        const int64_t columns = panels_.front().shape->columns;
        const int64_t numbers = weight_bytes / static_cast<int64_t>(sizeof(T));
        int64_t at_once = numbers / (depth() * columns);
        if (apart) at_once = std::min(at_once, numbers / (block.size() * columns));
        at_once = std::max<int64_t>(at_once, 1);
        for (int64_t i = panels.begin; i < panels.end; i += at_once) {
            const Panel<T>*first = &panels_[i], *last = panels_.data() + std::min(i + at_once, panels.end);
            const T* start = starts_.data() + group * width_;
            if (!apart) {
                BlockGather<T>(kernels_, g, block, source, to, weights_, group, start, false).compute(first, last);
                continue;
            }
            // Channels apart: computed side by side, then transposed, so that each line of the result is written once.
            const int64_t row = (last - 1)->start + (last - 1)->shape->columns - first->start;
            const Buffer<T> buffer(block.size() * row);
            View<T> local = {buffer.data(), 0, {row, 1, {row, row, row}}};
            for (int axis = 1; axis >= 0; --axis)
                local.strides.axis[axis] = local.strides.axis[axis + 1] * block.positions[axis + 1].size();
            local.strides.batch = local.strides.axis[0] * block.positions[0].size();
            local.origin = -block.samples.begin * local.strides.batch;
            for (int axis = 0; axis < 3; ++axis) local.origin -= block.positions[axis].begin * local.strides.axis[axis];
            BlockGather<T>(kernels_, g, block, source, local, weights_, group, start, true).compute(first, last);
            for (const Panel<T>* panel = first; panel < last; ++panel)
                scatter(block, *panel, local, panel->start - first->start, to);
        }
    }

    // A block's columns of a panel, from where they were computed to where they belong.
    void scatter(const Block& block, const Panel<T>& panel, const View<T>& from, int64_t column,
                 const View<T>& to) const {
        const Range* p = block.positions;
        const Strides &f = from.strides, &t = to.strides;
        const bool whole = t.axis[1] == p[2].size() * t.axis[2];  // rows that follow one another on both sides are one
        const int64_t rows = whole ? 1 : p[1].size(), count = whole ? p[1].size() * p[2].size() : p[2].size();
        for (int64_t n = block.samples.begin; n < block.samples.end; ++n)
            for (int64_t i = p[0].begin; i < p[0].end; ++i)
                for (int64_t j = p[1].begin; j < p[1].begin + rows; ++j)
                    copy_matrix(kernels_, from.at(n, i, j, p[2].begin) + column, f.axis[2], 1,
                                to.at(n, i, j, p[2].begin) + panel.first * t.channel, t.axis[2], t.channel, count,
                                panel.columns);
    }

    int64_t depth() const { return g_.taps() * g_.inputs; }  // of the sum

    const Gather& g_;
    const Kernels<T>& kernels_;
    const std::vector<Panel<T>> panels_;
    const int64_t width_;  // of a row of all panels
    const PackedWeights<T> weights_;
    const Buffer<T> starts_;  // what the sums start from: the bias or zero
};

}  // namespace

template <class T>
void direct_forward(const Problem& problem, const Kernels<T>& kernels, const T* x, const T* w, const T* bias, T* y,
                    int threads) {
    const Gather g = forward_gather(merged(problem));
    Product<T>(g, kernels, w, bias, threads).compute(x, y, threads);
}

template <class T>
void direct_grad_input(const Problem& problem, const Kernels<T>& kernels, const T* w, const T* dy, T* dx, int threads) {
    const Problem p = merged(problem);
    std::vector<GatherAxis> axes[3];
    int64_t reached = 1;  // positions that some tap hits
    for (int i = 0; i < 3; ++i) {
        axes[i] = gradient_axes(p.axis[i]);
        int64_t sum = 0;
        for (const GatherAxis& axis : axes[i]) sum += axis.positions();
        reached *= sum;
    }
    if (reached < p.inputs()) {
        const int64_t size = p.batch * p.in_channels * p.inputs(), parts = size / (1 << 18) + 1;
        parallel_for(parts, threads, [&](int64_t i) {
            std::fill(dx + size / parts * i, i + 1 < parts ? dx + size / parts * (i + 1) : dx + size, T(0));
        });
    }
    for (const GatherAxis& depth : axes[0])
        for (const GatherAxis& height : axes[1])
            for (const GatherAxis& width : axes[2]) {
                const Gather g = gradient_gather(p, depth, height, width);
                Product<T>(g, kernels, w, nullptr, threads).compute(dy, dx, threads);
            }
}

template void direct_forward(const Problem&, const Kernels<float>&, const float*, const float*, const float*, float*,
                             int);
template void direct_forward(const Problem&, const Kernels<double>&, const double*, const double*, const double*,
                             double*, int);
template void direct_grad_input(const Problem&, const Kernels<float>&, const float*, const float*, float*, int);
template void direct_grad_input(const Problem&, const Kernels<double>&, const double*, const double*, double*, int);

}  // namespace backlit
