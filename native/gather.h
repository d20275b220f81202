// Forward and the gradient of the input as one thing: every position of a result gathers from a source, tap by tap.
//
//     forward     y[o] gathers x[stride*o + dilation*t - pad]
//     gradient    dx[residue + stride*q] gathers dy[q + (residue + pad - dilation*t) / stride], for the taps t that hit
//                 the residue: a convolution of stride 1 for every residue of every axis, and nothing is scattered
//
// What lies in the padding is never read: positions are split where the set of taps that read something changes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "problem.h"

namespace backlit {

struct Range {
    int64_t begin = 0, end = 0;

    int64_t size() const { return end - begin; }
};

inline Range common(Range a, Range b) { return {std::max(a.begin, b.begin), std::min(a.end, b.end)}; }

struct Tap {
    int64_t number;  // in the kernel
    int64_t offset;  // what position 0 reads, if it exists
};

// Positions that all read at the same taps.
struct Interval {
    Range positions, taps;
};

// Position q of the result lies at start + step*q, and reads, at a tap, source position reach*q + offset.
struct GatherAxis {
    int64_t start = 0, step = 1, reach = 1;
    int64_t source = 1;               // positions of the source
    std::vector<Tap> taps;            // by ascending offset
    std::vector<Interval> intervals;  // all positions of the result, in order

    int64_t positions() const { return intervals.empty() ? 0 : intervals.back().positions.end; }
    // The source positions that a range of positions reads, from the first to the last.
    Range reads(Range positions) const;
    // Those of a range of positions that read something at a tap.
    Range reading(const Tap& tap, Range positions) const;
};

struct Gather {
    int64_t batch, groups, inputs, outputs;  // inputs and outputs: channels of a group, of source and result
    GatherAxis axis[3];
    Strides source, result;
    int64_t weight_input, weight_output, weight_tap[3];  // distances in the weights
    int64_t weight_group;

    int64_t taps() const {
        return static_cast<int64_t>(axis[0].taps.size() * axis[1].taps.size() * axis[2].taps.size());
    }
};

// Samples and positions of a result that are computed at a time.
struct Block {
    Range samples, positions[3];

    int64_t size() const { return samples.size() * positions[0].size() * positions[1].size() * positions[2].size(); }
};

// The same problem with axes that are passed through unchanged merged into their neighbours, the batch included.
Problem merged(const Problem& problem);

Gather forward_gather(const Problem& problem);
// An axis of the gradient of the input for each residue that taps hit; positions of other residues have no gradient but
// zero. Any three of them make a gather.
std::vector<GatherAxis> gradient_axes(const Axis& axis);
Gather gradient_gather(const Problem& problem, const GatherAxis& depth, const GatherAxis& height,
                       const GatherAxis& width);

// All of a result in blocks of about `positions`, whole rows where possible.
std::vector<Block> blocks_of(const Gather& gather, int64_t positions);

}  // namespace backlit
