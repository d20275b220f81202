// Who reads whom along an axis: for every position, the taps that it reads other positions at.
#pragma once

#include <cstdint>
#include <vector>

#include "problem.h"

namespace backlit {

// The steps from `begin` to below `end` read the taps from `first` to below `last` of their residue's list.
struct Segment {
    int64_t begin, end, first, last;
};

// The positions residue + j*period, j = 0, 1, ...: step j reads position j*step + offset[i] at tap[i], where there is
// such a position. The offsets rise, so the taps that are valid at a step are neighbours in the list.
struct Residue {
    std::vector<int64_t> tap, offset;
    std::vector<Segment> segments;  // in order, for all steps
};

struct Reads {
    int64_t positions, limit;  // how many positions read, and how many there are to be read
    int64_t period, step;
    std::vector<Residue> residues;  // (period,)

    // The steps of a residue.
    int64_t steps(int64_t residue) const { return (positions - residue + period - 1) / period; }
    // What `position` reads: the entries from first to below last of its residue's list.
    Segment at(int64_t position) const;
};

// The outputs of an axis read its inputs; or, the other way round, the inputs read the outputs whose windows they are
// in.
Reads outputs_read(const Axis& axis);
Reads inputs_read(const Axis& axis);

}  // namespace backlit
