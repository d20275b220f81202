// Where Winograd's convolution can be used, where it pays, and how it is described.
#include <algorithm>
#include <string>

#include "winograd.h"
#include "winograd_strips.h"

namespace backlit {
namespace {

constexpr int64_t fewest_channels = 9;

// The tiles of a pass cover its results; those of the gradient of the weights cover the upstream gradient.
Strips strips_of(const Problem& p, Pass pass) {
    const bool inputs = pass == Pass::grad_input;
    return {p.batch, inputs ? p.axis[1].input : p.axis[1].output, inputs ? p.axis[2].input : p.axis[2].output};
}

// Pairs of an output and a tap along an axis that do not read padding.
double reads(const Axis& axis) {
    int64_t count = 0;
    for (int64_t tap = 0; tap < axis.kernel; ++tap)
        count += std::max<int64_t>(
            0, std::min(axis.output, axis.input + axis.pad - tap) - std::max<int64_t>(0, axis.pad - tap));
    return static_cast<double>(count);
}

}  // namespace

const char* winograd_refusal(const Problem& p, Pass) {
    const Axis& depth = p.axis[0];
    if (depth.input != 1 || depth.output != 1 || depth.kernel != 1 || depth.stride != 1 || depth.pad != 0)
        return "winograd serves two spatial axes";
    for (int i = 1; i < 3; ++i) {
        if (p.axis[i].kernel != 3) return "winograd serves kernels of 3x3";
        if (p.axis[i].stride != 1) return "winograd serves stride 1";
        if (p.axis[i].dilation != 1) return "winograd serves dilation 1";
    }
    if (p.group_inputs() < fewest_channels || p.group_outputs() < fewest_channels)
        return "winograd serves groups of more than 8 channels on both sides";
    return nullptr;
}

double winograd_multiplications(const Problem& p, Pass pass) {
    return 36 * static_cast<double>(strips_of(p, pass).tiles()) * static_cast<double>(p.out_channels) *
           static_cast<double>(p.group_inputs());
}

// Measured: the transforms of a tile cost as much as 300 multiplications for every channel, and direct arithmetic on
// the weights' gradient is the better the smaller the image is. Pads beyond the kernel leave results that should be
// zero, where Winograd leaves a rounding error.
bool winograd_pays(const Problem& p, Pass pass) {
    for (int i = 1; i < 3; ++i) {
        const int64_t high = p.axis[i].output + 2 - p.axis[i].input - p.axis[i].pad;
        if (p.axis[i].pad < 0 || p.axis[i].pad > 2 || high < 0 || high > 2) return false;
    }
    const double inputs = static_cast<double>(p.group_inputs()), outputs = static_cast<double>(p.group_outputs());
    const double direct = static_cast<double>(p.batch) * reads(p.axis[1]) * reads(p.axis[2]) * inputs * outputs;
    const double tile = 36 * inputs * outputs + 300 * (inputs + outputs);
    return static_cast<double>(strips_of(p, pass).tiles()) * tile * (pass == Pass::grad_weight ? 1.25 : 1) < direct;
}

Cut cut_of(const Strips& strips, int64_t steps, int64_t lanes) {
    constexpr int64_t cached = 130000;          // numbers of transformed data that stay in the second cache
    constexpr int64_t most_shared_tiles = 128;  // whose products with one panel of weights stay there
    constexpr double most_weights = 4e6, many_weights = 1.5e6;
    const double weights = 36 * static_cast<double>(steps) * static_cast<double>(lanes);
    if (weights > most_weights || (weights > many_weights && strips.tiles() <= 64)) {
        const int64_t blocks = std::min(ceil_div(strips.tiles(), most_shared_tiles), strips.count);
        return {true, blocks, ceil_div(strips.count, blocks) * strips.longest};
    }
    const int64_t enough = std::max<int64_t>(14, strips.tiles() / 16);  // so that there is work for several threads
    const int64_t most = std::max<int64_t>(8, std::min({int64_t(56), enough, cached / (36 * steps)}));
    int64_t blocks = ceil_div(strips.count, std::max<int64_t>(1, most / strips.longest));
    if (blocks > 8) blocks = std::min(ceil_div(blocks, 8) * 8, strips.count);
    return {false, blocks, ceil_div(strips.count, blocks) * strips.longest};
}

int64_t private_chunks(const Strips& strips, int64_t inputs, int64_t outputs) {
    if (inputs * outputs > 64 * 64 || strips.tiles() < 256) return 0;
    return std::min(strips.count, std::min<int64_t>(strips.tiles() / 64, 16));
}

int64_t winograd_pieces(const Problem& p, Pass pass) {
    const Strips strips = strips_of(p, pass);
    if (pass == Pass::grad_weight) {
        const int64_t chunks = private_chunks(strips, p.group_inputs(), p.group_outputs());
        return chunks ? p.groups * chunks : ceil_div(p.group_inputs(), 32) * ceil_div(p.group_outputs(), 32);
    }
    const bool forward = pass == Pass::forward;
    const int64_t lanes = forward ? p.group_outputs() : p.group_inputs();
    const Cut cut = cut_of(strips, forward ? p.group_inputs() : p.group_outputs(), lanes);
    return cut.shared ? ceil_div(lanes, 32) : p.groups * cut.blocks;
}

std::string winograd_tile(const Problem& p, Pass pass) {
    if (pass == Pass::grad_weight) return "F(3x3, 4x4)";
    const bool forward = pass == Pass::forward;
    const Cut cut = cut_of(strips_of(p, pass), forward ? p.group_inputs() : p.group_outputs(),
                           forward ? p.group_outputs() : p.group_inputs());
    return "F(4x4, 3x3), " + std::to_string(cut.tiles) + " tiles a block";
}

}  // namespace backlit
