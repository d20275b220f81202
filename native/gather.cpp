#include "gather.h"

#include <algorithm>

namespace backlit {
namespace {

int64_t modulo(int64_t a, int64_t b) { return ((a % b) + b) % b; }

// The first position that reads source position `at` or a later one.
int64_t first_reading(const GatherAxis& axis, const Tap& tap, int64_t at, int64_t positions) {
    return std::clamp(ceil_div(at - tap.offset, axis.reach), int64_t{0}, positions);
}

void split(GatherAxis& axis, int64_t positions) {
    std::vector<int64_t> cuts = {0, positions};
    for (const Tap& tap : axis.taps) {
        cuts.push_back(first_reading(axis, tap, 0, positions));
        cuts.push_back(first_reading(axis, tap, axis.source, positions));
    }
    std::sort(cuts.begin(), cuts.end());
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
    const auto first_from = [&](int64_t offset) {
        const auto found = std::partition_point(axis.taps.begin(), axis.taps.end(),
                                                [&](const Tap& tap) { return tap.offset < offset; });
        return static_cast<int64_t>(found - axis.taps.begin());
    };
    for (size_t i = 0; i + 1 < cuts.size(); ++i) {
        const int64_t start = axis.reach * cuts[i];
        axis.intervals.push_back({{cuts[i], cuts[i + 1]}, {first_from(-start), first_from(axis.source - start)}});
    }
}

GatherAxis forward_axis(const Axis& a) {
    GatherAxis axis;
    axis.reach = a.stride;
    axis.source = a.input;
    for (int64_t t = 0; t < a.kernel; ++t) axis.taps.push_back({t, a.dilation * t - a.pad});
    split(axis, a.output);
    return axis;
}

bool passed_through(const Axis& a) { return a.kernel == 1 && a.stride == 1 && a.pad == 0 && a.input == a.output; }

}  // namespace

Range GatherAxis::reads(Range positions) const {
    Range result = {source, 0};
    for (const Interval& interval : intervals) {
        const int64_t begin = std::max(positions.begin, interval.positions.begin);
        const int64_t end = std::min(positions.end, interval.positions.end);
        if (begin >= end || interval.taps.size() == 0) continue;
        result.begin = std::min(result.begin, reach * begin + taps[interval.taps.begin].offset);
        result.end = std::max(result.end, reach * (end - 1) + taps[interval.taps.end - 1].offset + 1);
    }
    return result.begin < result.end ? result : Range{};
}

Range GatherAxis::reading(const Tap& tap, Range positions) const {
    const int64_t end = first_reading(*this, tap, source, positions.end);
    return {std::max(positions.begin, first_reading(*this, tap, 0, positions.end)), end};
}

Problem merged(const Problem& problem) {
    std::vector<Axis> kept;
    for (const Axis& axis : problem.axis) {
        if (passed_through(axis) && !kept.empty() && passed_through(kept.back())) {
            kept.back().input = kept.back().output = kept.back().input * axis.input;
        } else if (!passed_through(axis) || axis.input > 1) {
            kept.push_back(axis);
        }
    }
    Problem p = problem;
    std::fill(p.axis, p.axis + 3, Axis());
    std::copy(kept.begin(), kept.end(), p.axis + 3 - kept.size());
    const bool whole = kept.empty() || (kept.size() == 1 && passed_through(kept[0]));
    if (whole && p.channels_last) {
        p.axis[2].input = p.axis[2].output = p.axis[2].input * p.batch;
        p.batch = 1;
    }
    return p;
}

Gather forward_gather(const Problem& p) {
    const WeightStrides w = p.weight_strides();
    Gather g = {p.batch,
                p.groups,
                p.group_inputs(),
                p.group_outputs(),
                {},
                p.input_strides(),
                p.output_strides(),
                w.channel,
                w.filter,
                {w.tap[0], w.tap[1], w.tap[2]},
                w.filter * p.group_outputs()};
    for (int i = 0; i < 3; ++i) g.axis[i] = forward_axis(p.axis[i]);
    return g;
}

std::vector<GatherAxis> gradient_axes(const Axis& a) {
    std::vector<GatherAxis> axes;
    std::vector<std::pair<int64_t, Tap>> hits;  // residue and tap
    for (int64_t t = a.kernel - 1; t >= 0; --t) {
        const int64_t residue = modulo(a.dilation * t - a.pad, a.stride);
        if (residue < a.input) hits.push_back({residue, {t, (residue + a.pad - a.dilation * t) / a.stride}});
    }
    std::stable_sort(hits.begin(), hits.end(), [](const auto& l, const auto& r) { return l.first < r.first; });
    for (const auto& [residue, tap] : hits) {
        if (axes.empty() || axes.back().start != residue) {
            axes.emplace_back();
            axes.back().start = residue;
            axes.back().step = a.stride;
            axes.back().source = a.output;
        }
        axes.back().taps.push_back(tap);
    }
    for (GatherAxis& axis : axes) split(axis, ceil_div(a.input - axis.start, a.stride));
    return axes;
}

Gather gradient_gather(const Problem& p, const GatherAxis& depth, const GatherAxis& height, const GatherAxis& width) {
    const WeightStrides w = p.weight_strides();
    return {p.batch,
            p.groups,
            p.group_outputs(),
            p.group_inputs(),
            {depth, height, width},
            p.output_strides(),
            p.input_strides(),
            w.filter,
            w.channel,
            {w.tap[0], w.tap[1], w.tap[2]},
            w.filter * p.group_outputs()};
}

std::vector<Block> blocks_of(const Gather& g, int64_t positions) {
    const int64_t counts[4] = {g.batch, g.axis[0].positions(), g.axis[1].positions(), g.axis[2].positions()};
    int64_t steps[4], room = std::max<int64_t>(positions, 1);
    for (int i = 3; i >= 0; --i) {  // as many whole inner axes as there is room for, then even parts of the next
        const int64_t parts = std::max<int64_t>(ceil_div(counts[i], room), 1);
        steps[i] = std::max<int64_t>(ceil_div(counts[i], parts), 1);
        room = std::max<int64_t>(room / steps[i], 1);
    }
    std::vector<Block> blocks;
    for (int64_t n = 0; n < counts[0]; n += steps[0])
        for (int64_t a = 0; a < counts[1]; a += steps[1])
            for (int64_t b = 0; b < counts[2]; b += steps[2])
                for (int64_t c = 0; c < counts[3]; c += steps[3])
                    blocks.push_back({{n, std::min(n + steps[0], counts[0])},
                                      {{a, std::min(a + steps[1], counts[1])},
                                       {b, std::min(b + steps[2], counts[2])},
                                       {c, std::min(c + steps[3], counts[3])}}});
    return blocks;
}

}  // namespace backlit
