// Where Winograd's convolution can be used, where it pays, and how it is described.
#include <string>

#include "winograd.h"
#include "winograd_strips.h"

namespace backlit {
namespace {

constexpr int64_t fewest_channels = 9;

// The tiles of a pass cover its results; those of the gradient of the weights cover the upstream gradient.
double tiles(const Problem& p, Pass pass) {
    double result = static_cast<double>(p.batch);
    for (int i = 1; i < 3; ++i) {
        const int64_t size = pass == Pass::grad_input ? p.axis[i].input : p.axis[i].output;
        result *= static_cast<double>(divide_up(size, 4));
    }
    return result;
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
    return 36 * tiles(p, pass) * static_cast<double>(p.out_channels) * static_cast<double>(p.group_inputs());
}

bool winograd_pays(const Problem& p, Pass pass) {
    for (int i = 1; i < 3; ++i) {
        const int64_t high = p.axis[i].output + 2 - p.axis[i].input - p.axis[i].pad;
        if (p.axis[i].pad < 0 || p.axis[i].pad > 2 || high < 0 || high > 2) return false;
    }
    return winograd_multiplications(p, pass) < 0.5 * p.multiplications();
}

int64_t winograd_pieces(const Problem& p, Pass pass) {
    if (pass == Pass::grad_weight) return 16;
    return std::max<int64_t>(1, static_cast<int64_t>(tiles(p, pass) / 28));
}

std::string winograd_tile(const Problem&, Pass pass) {
    return pass == Pass::grad_weight ? "F(3x3, 4x4)" : "F(4x4, 3x3)";
}

}  // namespace backlit
