// The pixels of channels-last arrays in runs that read alike, as the kernels want them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/table.h"
#include "reads.h"

namespace backlit {

// All windows of a batch. A unit is a row of positions along the last axis, or a part of a long one; the units are
// numbered sample by sample, row by row.
class Windows {
  public:
    // Outputs read inputs; or, backwards, inputs read outputs. joined: runs may take in positions whose windows hang
    // over the ends of the row, where depthwise_joins(); else all that a run's window names exists.
    Windows(const Problem& problem, bool backwards, bool joined = false);

    int64_t units() const { return batch_ * rows_ * parts_; }
    int64_t unit_numbers() const { return channels_ * std::max<int64_t>(1, positions_[2] / parts_); }
    // How many units make a piece of about 64 K numbers, at least four pieces where there are as many units.
    int64_t units_per_piece() const {
        const int64_t enough = std::max<int64_t>(1, (int64_t{1} << 16) / unit_numbers());
        return std::max<int64_t>(1, std::min(enough, units() / 4));
    }

    // visit(window, first of the read pixels, first of the reading pixels) for each run of the units from begin to
    // below end: the bases that the window's places count from, in pixels. A run without taps is visited too.
    template <class Visit>
    void visit(int64_t begin, int64_t end, Visit visit) const;

  private:
    Reads reads_[3];
    int64_t batch_, channels_, rows_, parts_, part_steps_;
    int64_t kernel_[3], positions_[3], limit_[3];
    bool far_;  // the arrays are too large for the caches: the next row is worth asking for
};

inline Windows::Windows(const Problem& p, bool backwards, bool joined) : batch_(p.batch), channels_(p.in_channels) {
    for (int a = 0; a < 3; ++a) {
        reads_[a] = backwards ? inputs_read(p.axis[a]) : outputs_read(p.axis[a]);
        kernel_[a] = p.axis[a].kernel;
        positions_[a] = reads_[a].positions;
        limit_[a] = reads_[a].limit;
    }
    for (Residue& residue : reads_[2].residues) {
        const int64_t columns = static_cast<int64_t>(residue.offset.size());
        if (joined && depthwise_joins(columns, reads_[2].step) &&
            residue.offset[columns - 1] - residue.offset[0] == columns - 1)
            residue.segments = {{0, residue.segments.back().end, 0, columns}};
    }
    rows_ = positions_[0] * positions_[1];
    far_ = p.axis[2].stride == 1 || p.batch * channels_ * (p.inputs() + p.outputs()) > int64_t{1} << 22;
    const int64_t steps = reads_[2].steps(0);
    const int64_t most =
        std::max<int64_t>(64, (int64_t{1} << 15) / (channels_ * std::min(reads_[2].period, positions_[2])));
    parts_ = (steps + most - 1) / most;
    part_steps_ = (steps + parts_ - 1) / parts_;
    parts_ = (steps + part_steps_ - 1) / part_steps_;
}

template <class Visit>
void Windows::visit(int64_t begin, int64_t end, Visit visit) const {
    std::vector<int64_t> row_at, row_tap;
    for (int64_t unit = begin; unit < end; ++unit) {
        const int64_t part = unit % parts_, row = unit / parts_ % rows_, n = unit / parts_ / rows_;
        const int64_t place[2] = {row / positions_[1], row % positions_[1]};
        const Segment outer = reads_[0].at(place[0]), inner = reads_[1].at(place[1]);
        const Residue &outer_taps = reads_[0].residues[place[0] % reads_[0].period],
                      &inner_taps = reads_[1].residues[place[1] % reads_[1].period];
        row_at.clear();
        row_tap.clear();
        for (int64_t i = outer.first; i < outer.last; ++i) {
            const int64_t depth = outer.begin * reads_[0].step + outer_taps.offset[i];
            for (int64_t j = inner.first; j < inner.last; ++j) {
                const int64_t height = inner.begin * reads_[1].step + inner_taps.offset[j];
                row_at.push_back((depth * limit_[1] + height) * limit_[2]);
                row_tap.push_back((outer_taps.tap[i] * kernel_[1] + inner_taps.tap[j]) * kernel_[2]);
            }
        }
        const int64_t base = n * limit_[0] * limit_[1] * limit_[2], to = (n * rows_ + row) * positions_[2];
        const Reads& along = reads_[2];
        for (int64_t r = 0; r < static_cast<int64_t>(along.residues.size()); ++r) {
            const Residue& residue = along.residues[r];
            for (const Segment& s : residue.segments) {
                const int64_t first = std::max(s.begin, part * part_steps_);
                const int64_t last = std::min(s.end, (part + 1) * part_steps_);
                if (first >= last) continue;
                Window window = {channels_,
                                 last - first,
                                 along.step,
                                 along.period,
                                 0,
                                 0,
                                 row_at.data(),
                                 row_tap.data(),
                                 residue.offset.data() + s.first,
                                 residue.tap.data() + s.first,
                                 -first * along.step,
                                 along.limit - first * along.step,
                                 far_ ? reads_[1].step * limit_[2] : 0,
                                 far_ ? positions_[2] : 0};
                window.columns = s.last - s.first;
                window.rows = window.columns > 0 ? static_cast<int64_t>(row_at.size()) : 0;
                visit(window, base + first * along.step, to + r + first * along.period);
            }
        }
    }
}

}  // namespace backlit
