// Where Winograd's convolution can be used, where it pays, and how it is described.
#include <string>

#include "winograd.h"
#include "winograd_strips.h"

namespace backlit {
namespace {

constexpr int64_t fewest_channels = 9;

// Tiles of the pass times 16 results each, for every result that there is: 1 where tiles fill the image.
double waste(const Axis& axis, Pass pass) {
    const int64_t size = pass == Pass::grad_input ? axis.input : axis.output;
    return static_cast<double>(divide_up(size, 4) * 4) / static_cast<double>(size);
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

bool winograd_pays(const Problem& p, Pass pass) {
    return waste(p.axis[1], pass) * waste(p.axis[2], pass) < 3;
}

std::string winograd_tile(const Problem&, Pass pass) {
    return pass == Pass::grad_weight ? "F(3x3, 4x4)" : "F(4x4, 3x3)";
}

}  // namespace backlit
