#include "reads.h"

#include <algorithm>

namespace backlit {
namespace {

int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

// The steps at which an offset reads an existing position: from `first` to below the second.
int64_t first_step(const Reads& reads, int64_t offset) { return -floor_div(offset, reads.step); }
int64_t end_step(const Reads& reads, int64_t offset) { return floor_div(reads.limit - offset - 1, reads.step) + 1; }

// The entries that are valid at step j; {j, j + 1, 0, 0} where there are none.
Segment valid_at(const Reads& reads, const Residue& residue, int64_t j) {
    const int64_t count = static_cast<int64_t>(residue.offset.size());
    const auto valid = [&](int64_t i) {
        const int64_t from = j * reads.step + residue.offset[i];
        return from >= 0 && from < reads.limit;
    };
    int64_t first = 0;
    while (first < count && !valid(first)) ++first;
    if (first == count) return {j, j + 1, 0, 0};
    int64_t last = first;
    while (last < count && valid(last)) ++last;
    return {j, j + 1, first, last};
}

void find_segments(const Reads& reads, Residue& residue, int64_t steps) {
    std::vector<int64_t> bounds = {0, steps};
    for (int64_t offset : residue.offset)
        for (int64_t bound : {first_step(reads, offset), end_step(reads, offset)})
            if (bound > 0 && bound < steps) bounds.push_back(bound);
    std::sort(bounds.begin(), bounds.end());
    bounds.erase(std::unique(bounds.begin(), bounds.end()), bounds.end());
    for (size_t i = 0; i + 1 < bounds.size(); ++i) {
        Segment segment = valid_at(reads, residue, bounds[i]);
        segment.end = bounds[i + 1];
        residue.segments.push_back(segment);
    }
}

}  // namespace

Segment Reads::at(int64_t position) const { return valid_at(*this, residues[position % period], position / period); }

Reads outputs_read(const Axis& axis) {
    Reads reads = {axis.output, axis.input, 1, axis.stride, {}};
    Residue residue;
    for (int64_t k = 0; k < axis.kernel; ++k) {
        residue.tap.push_back(k);
        residue.offset.push_back(axis.dilation * k - axis.pad);
    }
    find_segments(reads, residue, reads.steps(0));
    reads.residues.push_back(std::move(residue));
    return reads;
}

Reads inputs_read(const Axis& axis) {
    // Input i is read at tap k by output (i + pad - dilation*k) / stride, where that is whole.
    const int64_t residues = std::min(axis.stride, axis.input);  // a stride may be far longer than the input
    Reads reads = {axis.input, axis.output, axis.stride, 1, std::vector<Residue>(residues)};
    for (int64_t k = axis.kernel - 1; k >= 0; --k) {         // so that the offsets rise
        const int64_t shift = axis.pad - axis.dilation * k;  // i + shift is a multiple of the stride for the residue
        const int64_t offset = -floor_div(-shift, axis.stride);
        const int64_t residue = offset * axis.stride - shift;  // the least i >= 0 of them, below the stride
        if (residue >= residues) continue;
        reads.residues[residue].tap.push_back(k);
        reads.residues[residue].offset.push_back(offset);
    }
    for (int64_t r = 0; r < residues; ++r) find_segments(reads, reads.residues[r], reads.steps(r));
    return reads;
}

}  // namespace backlit
