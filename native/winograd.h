// Winograd's convolution of 3x3 kernels at stride 1 in float32: F(4x4, 3x3), and F(3x3, 4x4) for the weights.
#pragma once

#include <string>

#include "engine.h"
#include "kernels/table.h"
#include "problem.h"

namespace backlit {

// Why the pass cannot be served; null where it can: two axes with a kernel of 3x3, stride and dilation 1, and enough
// channels in every group for the transforms to be repaid.
const char* winograd_refusal(const Problem& problem, Pass pass);
inline bool winograd_serves(const Problem& problem, Pass pass) { return winograd_refusal(problem, pass) == nullptr; }

// Whether it beats direct arithmetic: the tiles at the edges of small images are mostly padding.
bool winograd_pays(const Problem& problem, Pass pass);

// The tile and how the work is cut, in words.
std::string winograd_tile(const Problem& problem, Pass pass);

// Multiplications of the products over tiles; pieces of work there are to spread over threads.
double winograd_multiplications(const Problem& problem, Pass pass);
int64_t winograd_pieces(const Problem& problem, Pass pass);

// Results have the same bits for any number of threads. A NaN reaches every output that reads it; infinities may become
// NaN, and both may spread within their tiles.
void winograd_forward(const Problem& problem, const Kernels<float>& kernels, const float* x, const float* w,
                      const float* bias_or_null, float* y, int threads);
void winograd_grad_input(const Problem& problem, const Kernels<float>& kernels, const float* w, const float* dy,
                         float* dx, int threads);
void winograd_grad_weight(const Problem& problem, const Kernels<float>& kernels, const float* x, const float* dy,
                          float* dw, int threads);

}  // namespace backlit
