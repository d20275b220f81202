// A copy of what a block reads, laid out as the micro-tile wants it.
#pragma once

#include <vector>

#include "gather.h"
#include "memory.h"
#include "panels.h"

namespace backlit {

// Rows of a tile that lie a multiple of 2 KB apart fall into one or two sets of the first cache and evict one another.
template <class T>
bool collides(int64_t distance) {
    return distance * static_cast<int64_t>(sizeof(T)) % 2048 == 0;
}

// Whether copying the positions that each tap reads takes less than copying all from the first to the last of them: so
// it is for one tap of a stride, which skips positions, and for taps that are far apart.
inline bool by_tap(const GatherAxis& axis, int64_t positions) {
    const auto taps = static_cast<int64_t>(axis.taps.size());
    return axis.reach * (positions - 1) + axis.taps.back().offset - axis.taps.front().offset + 1 > taps * positions;
}

// What a group's source is read at by a block of positions, channels innermost. Along an axis it holds either a span,
// or tap after tap what each position reads; `gather` says where, and is the problem on the copy.
template <class T>
class Staged {
  public:
    Staged(const Kernels<T>& kernels, const Gather& g, const Block& block, const T* source, int64_t group)
        : gather_(g),
          axis_{at(0, block), at(1, block), at(2, block)},
          row_(row(g.inputs)),
          buffer_(block.samples.size() * size()) {
        const Strides& s = g.source;
        Strides& v = view_.strides;
        v = {size(), 1, {axis_[1].size * axis_[2].size * row_, axis_[2].size * row_, row_}};
        view_.data = buffer_.data();
        view_.origin = -block.samples.begin * v.batch;
        for (int64_t n = block.samples.begin; n < block.samples.end; ++n) {
            const T* sample = source + n * s.batch + group * g.inputs * s.channel;
            T* to = buffer_.data() + (n - block.samples.begin) * v.batch;
            for (const Run& a : axis_[0].runs)
                for (const Run& b : axis_[1].runs)
                    for (const Run& c : axis_[2].runs) {
                        const T* from = sample + a.source * s.axis[0] + b.source * s.axis[1] + c.source * s.axis[2];
                        T* first = to + a.copy * v.axis[0] + b.copy * v.axis[1] + c.copy * v.axis[2];
                        // Whole rows that follow one another on both sides are one.
                        const bool whole =
                            c.step == 1 && b.step == 1 && c.count == axis_[2].size && s.axis[1] == c.count * s.axis[2];
                        const int64_t rows = whole ? 1 : b.count, count = whole ? b.count * c.count : c.count;
                        for (int64_t i = 0; i < a.count; ++i)
                            for (int64_t j = 0; j < rows; ++j)
                                copy_matrix(kernels, from + i * a.step * s.axis[0] + j * b.step * s.axis[1],
                                            c.step * s.axis[2], s.channel, first + i * v.axis[0] + j * v.axis[1], row_,
                                            1, count, g.inputs);
                    }
        }
    }

    const View<const T>& view() const { return view_; }
    const Gather& gather() const { return gather_; }

  private:
    // `count` positions of the copy from `copy` on, and what they hold: source positions from `source` on, `step`
    // apart.
    struct Run {
        int64_t copy, source, step, count;
    };
    struct Staging {
        int64_t size;
        std::vector<Run> runs;
    };

    // What a block reads along an axis; changes the axis of gather_ to that of the copy.
    Staging at(int i, const Block& block) {
        GatherAxis& axis = gather_.axis[i];
        const Range positions = block.positions[i];
        Staging result = {};
        if (!by_tap(axis, positions.size())) {
            const Range reads = axis.reads(positions);
            if (reads.size() > 0) result = {reads.size(), {{0, reads.begin, 1, reads.size()}}};
            for (Tap& tap : axis.taps) tap.offset -= reads.begin;
            return result;
        }
        for (Tap& tap : axis.taps) {
            const Range valid = axis.reading(tap, positions);
            if (valid.size() > 0)
                result.runs.push_back({result.size + valid.begin - positions.begin,
                                       axis.reach * valid.begin + tap.offset, axis.reach, valid.size()});
            tap.offset = result.size - positions.begin;
            result.size += positions.size();
        }
        axis.reach = 1;
        return result;
    }

    int64_t row(int64_t inputs) const { return collides<T>(inputs * gather_.axis[2].reach) ? inputs + 16 : inputs; }
    int64_t size() const { return axis_[0].size * axis_[1].size * axis_[2].size * row_; }  // of a sample

    Gather gather_;
    Staging axis_[3];
    int64_t row_;  // of a position's channels
    Buffer<T> buffer_;
    View<const T> view_;
};

}  // namespace backlit
