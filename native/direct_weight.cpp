// The direct gradient of the weights: sums over positions kept in registers, tap by tap, in packed panels.
#include <algorithm>

#include "direct.h"
#include "memory.h"
#include "panels.h"
#include "staged.h"
#include "threads.h"

namespace backlit {
namespace {

constexpr int64_t block_bytes = 512 << 10;   // of a block's x and dy where each thread has its own block
constexpr int64_t shared_bytes = 4 << 20;    // of a block's x and dy where the threads share one
constexpr int64_t partial_bytes = 16 << 20;  // of all private sums
constexpr int64_t work_of_chunk = 1 << 19;   // multiplications for which sums of its own pay
constexpr int64_t chunk_positions = 512;     // for which it pays to add sums of its own to the others
constexpr int64_t most_chunks = 32;

// dw of one group in panels [panel][tap][input][column of the panel], taps by ascending offset; dy of a block with the
// columns of a panel side by side.
template <class T>
class BlockSums {
  public:
    BlockSums(const Gather& g, const Block& block, const View<const T>& x, const View<const T>& dy)
        : g_(g), block_(block), x_(x), dy_(dy) {}

    // Add the block's part of some taps of the middle axis, and of some (tap, channel) rows of the last, to the sums of
    // a panel. Calls for different rows may run side by side.
    void add(const Panel<T>& panel, Range heights, Range rows, T* sums) {
        rows_ = rows;
        for (const Interval& a : g_.axis[0].intervals)
            for (const Interval& b : g_.axis[1].intervals)
                for (const Interval& c : g_.axis[2].intervals)
                    rectangle(panel, a, {b.positions, common(b.taps, heights)}, c, sums);
    }

  private:
    void rectangle(const Panel<T>& panel, const Interval& a, const Interval& b, const Interval& c, T* sums) {
        const Range ranges[4] = {block_.samples, common(block_.positions[0], a.positions),
                                 common(block_.positions[1], b.positions), common(block_.positions[2], c.positions)};
        for (const Range& range : ranges)
            if (range.size() <= 0) return;
        if (a.taps.size() <= 0 || b.taps.size() <= 0 || c.taps.size() <= 0) return;

        // The steps of the sum run along the longest axis, the segments along the others.
        int along = 3;
        for (int i = 2; i >= 0; --i)
            if (ranges[i].size() > ranges[along].size()) along = i;
        const int64_t columns = panel.shape->columns;
        xs_.clear();
        dys_.clear();
        Range outer[4] = {ranges[0], ranges[1], ranges[2], ranges[3]};
        outer[along].end = outer[along].begin + 1;
        for (int64_t n = outer[0].begin; n < outer[0].end; ++n)
            for (int64_t i = outer[1].begin; i < outer[1].end; ++i)
                for (int64_t j = outer[2].begin; j < outer[2].end; ++j)
                    for (int64_t k = outer[3].begin; k < outer[3].end; ++k) {
                        xs_.push_back(x_.at(n, g_.axis[0].reach * i, g_.axis[1].reach * j, g_.axis[2].reach * k) -
                                      x_.data);
                        dys_.push_back(dy_.at(n, i, j, k) - dy_.data);
                    }
        static const T zeros[64] = {};
        Tile<T> tile = {};
        tile.b = dy_.data;
        tile.a_row = 1;
        tile.a_step = along == 0 ? x_.strides.batch : g_.axis[along - 1].reach * x_.strides.axis[along - 1];
        tile.b_step = along == 0 ? dy_.strides.batch : dy_.strides.axis[along - 1];
        tile.c_row = columns;
        tile.segments = static_cast<int64_t>(xs_.size());
        tile.steps = ranges[along].size();
        tile.a_offset = xs_.data();
        tile.b_offset = dys_.data();
        tile.init = zeros;
        tile.accumulate = true;

        const std::vector<Tap>& last = g_.axis[2].taps;
        const auto heights = static_cast<int64_t>(g_.axis[1].taps.size()), widths = static_cast<int64_t>(last.size());
        // Neighbouring taps whose channels lie one after the other in x are one run of rows.
        const bool run = x_.strides.axis[2] == g_.inputs &&
                         last[c.taps.end - 1].offset - last[c.taps.begin].offset == c.taps.size() - 1;
        for (int64_t k = c.taps.begin; k < c.taps.end; k += run ? c.taps.size() : 1) {
            const Range mine = common(rows_, {k * g_.inputs, (run ? c.taps.end : k + 1) * g_.inputs});
            const int64_t rows = mine.size(), groups = (rows + panel.shape->rows - 1) / panel.shape->rows;
            for (int64_t i = a.taps.begin; i < a.taps.end; ++i)
                for (int64_t j = b.taps.begin; j < b.taps.end; ++j) {
                    const int64_t from = g_.axis[0].taps[i].offset * x_.strides.axis[0] +
                                         g_.axis[1].taps[j].offset * x_.strides.axis[1] +
                                         last[k].offset * x_.strides.axis[2] + mine.begin - k * g_.inputs;
                    T* to = sums + ((i * heights + j) * widths * g_.inputs + mine.begin) * columns;
                    for (int64_t group = 0; group < groups; ++group) {
                        const int64_t first = rows * group / groups, end = rows * (group + 1) / groups;
                        tile.a = x_.data + from + first;
                        tile.c = to + first * columns;
                        panel.shape->across[end - first](tile);
                    }
                }
        }
    }

    const Gather& g_;
    const Block& block_;
    const View<const T>&x_, &dy_;
    Range rows_;
    std::vector<int64_t> xs_, dys_;  // offsets of the rectangle at hand
};

// One panel of a block's dy: [position of the block][column], zero in columns without a channel.
template <class T>
void pack_upstream(const Kernels<T>& kernels, const Gather& g, const Block& block, const Panel<T>& panel, int64_t group,
                   const T* dy, T* to) {
    const Strides& s = g.result;
    const Range* p = block.positions;
    const int64_t columns = panel.shape->columns;
    if (panel.columns < columns) std::fill_n(to, block.size() * columns, T(0));
    const bool whole = s.axis[1] == p[2].size() * s.axis[2];  // rows that follow one another are one
    const int64_t rows = whole ? 1 : p[1].size(), count = whole ? p[1].size() * p[2].size() : p[2].size();
    for (int64_t n = block.samples.begin; n < block.samples.end; ++n)
        for (int64_t i = p[0].begin; i < p[0].end; ++i)
            for (int64_t j = p[1].begin; j < p[1].begin + rows; ++j) {
                const T* from = dy + n * s.batch + i * s.axis[0] + j * s.axis[1] + p[2].begin * s.axis[2] +
                                (group * g.outputs + panel.first) * s.channel;
                copy_matrix(kernels, from, s.axis[2], s.channel, to, columns, 1, count, panel.columns);
                to += count * columns;
            }
}

template <class T>
class Gradient {
  public:
    Gradient(const Gather& g, const Kernels<T>& kernels, const T* x, const T* dy)
        : kernels_(kernels),
          g_(g),
          panels_(panels_of(kernels, g.outputs)),
          x_(x),
          dy_(dy),
          in_place_(g.result.channel == 1 && panels_.size() == 1 && g.outputs == panels_[0].shape->columns &&
                    !collides<T>(g.result.axis[2])),
          width_(width_of(panels_)),
          depth_(g.taps() * g.inputs),
          size_(g.groups * depth_ * width_) {}

    void compute(T* dw, int threads) {
        const int64_t all = g_.batch * g_.axis[0].positions() * g_.axis[1].positions() * g_.axis[2].positions();
        const int64_t reach = g_.axis[0].reach * g_.axis[1].reach * g_.axis[2].reach;
        const int64_t bytes = static_cast<int64_t>(sizeof(T)) * (width_ + g_.inputs * reach);  // of a position
        const int64_t worthwhile = all * depth_ * g_.outputs * g_.groups / work_of_chunk;
        const int64_t affordable = partial_bytes / (size_ * static_cast<int64_t>(sizeof(T)));
        const int64_t chunks =
            std::clamp<int64_t>(std::min({worthwhile, affordable, all / chunk_positions}), 1, most_chunks);
        if (chunks >= most_chunks / 2 || worthwhile <= chunks) {
            const int64_t positions = std::min(block_bytes / bytes, (all + chunks - 1) / chunks);
            const std::vector<Block> blocks = blocks_of(g_, std::max(positions, int64_t{64}));
            each_its_own(blocks, std::min(chunks, static_cast<int64_t>(blocks.size())), dw, threads);
        } else {
            together(blocks_of(g_, std::max(shared_bytes / bytes, int64_t{64})), dw, threads);
        }
    }

  private:
    // Each chunk of blocks has sums of its own, which are added up in their order.
    void each_its_own(const std::vector<Block>& blocks, int64_t chunks, T* dw, int threads) {
        const Buffer<T> sums(size_ * chunks);
        const auto count = static_cast<int64_t>(blocks.size());
        parallel_for(g_.groups * chunks, threads, [&](int64_t piece) {
            const int64_t group = piece / chunks, chunk = piece % chunks;
            T* mine = sums.data() + chunk * size_ + group * depth_ * width_;
            std::fill_n(mine, depth_ * width_, T(0));
            for (int64_t b = count * chunk / chunks; b < count * (chunk + 1) / chunks; ++b) {
                const Block& block = blocks[b];
                const Buffer<T> packed(in_place_ ? 0 : block.size() * width_);
                const auto add = [&](const Gather& g, const View<const T>& x) {
                    for (const Panel<T>& panel : panels_) {
                        T* copy = packed.data() + block.size() * panel.start;
                        if (!in_place_) pack_upstream(kernels_, g_, block, panel, group, dy_, copy);
                        BlockSums<T>(g, block, x, upstream(block, panel, group, copy))
                            .add(panel, {0, INT64_MAX}, {0, INT64_MAX}, mine + depth_ * panel.start);
                    }
                };
                with_source(block, group, add);
            }
        });
        write(sums.data(), chunks, dw, threads);
    }

    // All threads share one block and one set of sums, too large for copies; each task has its own part of the sums.
    void together(const std::vector<Block>& blocks, T* dw, int threads) {
        const Buffer<T> sums(size_);
        const auto panels = static_cast<int64_t>(panels_.size()),
                   heights = static_cast<int64_t>(g_.axis[1].taps.size());
        parallel_for(g_.groups * panels, threads, [&](int64_t i) {
            T* mine = sums.data() + depth_ * (i / panels * width_ + panels_[i % panels].start);
            std::fill_n(mine, depth_ * panels_[i % panels].shape->columns, T(0));
        });
        const int64_t rows = static_cast<int64_t>(g_.axis[2].taps.size()) * g_.inputs;
        const int64_t shares = std::clamp<int64_t>(most_chunks / (panels * heights), 1, rows / most_rows + 1);
        for (int64_t group = 0; group < g_.groups; ++group)
            for (const Block& block : blocks) {
                const Buffer<T> packed(in_place_ ? 0 : block.size() * width_);
                if (!in_place_)
                    parallel_for(panels, threads, [&](int64_t i) {
                        pack_upstream(kernels_, g_, block, panels_[i], group, dy_,
                                      packed.data() + block.size() * panels_[i].start);
                    });
                with_source(block, group, [&](const Gather& g, const View<const T>& x) {
                    parallel_for(panels * heights * shares, threads, [&](int64_t i) {
                        const Panel<T>& panel = panels_[i / shares / heights];
                        const int64_t height = i / shares % heights, share = i % shares;
                        T* copy = packed.data() + block.size() * panel.start;
                        BlockSums<T>(g, block, x, upstream(block, panel, group, copy))
                            .add(panel, {height, height + 1}, {rows * share / shares, rows * (share + 1) / shares},
                                 sums.data() + depth_ * (group * width_ + panel.start));
                    });
                });
            }
        write(sums.data(), 1, dw, threads);
    }

    // What a block's dy is read from: its packed panel, or dy itself.
    View<const T> upstream(const Block& block, const Panel<T>& panel, int64_t group, const T* copy) const {
        if (in_place_) return {dy_, group * g_.outputs, g_.result};
        const int64_t columns = panel.shape->columns;
        const int64_t extents[3] = {block.positions[0].size(), block.positions[1].size(), block.positions[2].size()};
        View<const T> view = {copy,
                              0,
                              {extents[0] * extents[1] * extents[2] * columns,
                               1,
                               {extents[1] * extents[2] * columns, extents[2] * columns, columns}}};
        view.origin = -block.samples.begin * view.strides.batch;
        for (int i = 0; i < 3; ++i) view.origin -= block.positions[i].begin * view.strides.axis[i];
        return view;
    }

    template <class Use>
    void with_source(const Block& block, int64_t group, const Use& use) const {
        if (g_.source.channel == 1) return use(g_, {x_, group * g_.inputs, g_.source});
        const Staged<T> staged(kernels_, g_, block, x_, group);
        use(staged.gather(), staged.view());
    }

    // dw = the chunks' sums, one after another, where the weights lie in memory.
    void write(const T* sums, int64_t chunks, T* dw, int threads) const {
        const auto panels = static_cast<int64_t>(panels_.size());
        const int64_t taps = g_.taps(), heights = static_cast<int64_t>(g_.axis[1].taps.size()),
                      widths = static_cast<int64_t>(g_.axis[2].taps.size());
        const bool small = size_ * chunks < 1 << 15;
        parallel_for(g_.groups * panels * taps, small ? 1 : threads, [&](int64_t piece) {
            const int64_t tap = piece % taps, group = piece / taps / panels;
            const Panel<T>& panel = panels_[piece / taps % panels];
            const int64_t columns = panel.shape->columns, rows = g_.inputs * columns;
            const T* from = sums + depth_ * (group * width_ + panel.start) + tap * rows;
            const Buffer<T> total(rows);
            std::copy_n(from, rows, total.data());
            for (int64_t chunk = 1; chunk < chunks; ++chunk)
                for (int64_t i = 0; i < rows; ++i) total[i] += from[chunk * size_ + i];
            const Tap &a = g_.axis[0].taps[tap / widths / heights], &b = g_.axis[1].taps[tap / widths % heights],
                      &c = g_.axis[2].taps[tap % widths];
            T* to = dw + group * g_.weight_group + a.number * g_.weight_tap[0] + b.number * g_.weight_tap[1] +
                    c.number * g_.weight_tap[2] + panel.first * g_.weight_output;
            copy_matrix(kernels_, total.data(), columns, 1, to, g_.weight_input, g_.weight_output, g_.inputs,
                        panel.columns);
        });
    }

    const Kernels<T>& kernels_;
    const Gather& g_;
    const std::vector<Panel<T>> panels_;
    const T *x_, *dy_;
    const bool in_place_;                 // dy lies as its only panel would
    const int64_t width_, depth_, size_;  // of a row of all panels; rows of a panel; numbers in the sums
};

}  // namespace

template <class T>
void direct_grad_weight(const Problem& problem, const Kernels<T>& kernels, const T* x, const T* dy, T* dw,
                        int threads) {
    const Gather g = forward_gather(merged(problem));
    Gradient<T>(g, kernels, x, dy).compute(dw, threads);
}

template void direct_grad_weight(const Problem&, const Kernels<float>&, const float*, const float*, float*, int);
template void direct_grad_weight(const Problem&, const Kernels<double>&, const double*, const double*, double*, int);

}  // namespace backlit
