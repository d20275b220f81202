#include "engine.h"

#include <algorithm>
#include <stdexcept>

#include "depthwise.h"
#include "direct.h"
#include "panels.h"
#include "small.h"
#include "winograd.h"

namespace backlit {
namespace {

constexpr double small_work = 4096;                  // multiplications up to which plain loops are fastest
constexpr double multiplications_per_second = 40e9;  // on one thread: the scale of an estimate, not a measurement
constexpr double work_of_piece = 1 << 19;            // multiplications, as the drivers cut them
constexpr double most_pieces = 32;

// The micro-tile of most of a product with so many columns: rows x columns.
template <class T>
std::string tile_of(const Kernels<T>& kernels, int64_t columns) {
    const TileShape<T>& shape = *panels_of(kernels, columns).front().shape;
    return std::to_string(shape.rows) + "x" + std::to_string(shape.columns);
}

// Winograd's kernels are float's alone, and so are the plans that name it.
template <class T>
void execute_winograd(const Plan&, const T*, const T*, const T*, T*, int) {}
template <>
void execute_winograd(const Plan& plan, const float* first, const float* second, const float* bias, float* result,
                      int threads) {
    const Problem& p = plan.problem;
    const Kernels<float>& kernels = plan.isa->f32;
    if (plan.pass == Pass::forward) return winograd_forward(p, kernels, first, second, bias, result, threads);
    if (plan.pass == Pass::grad_input) return winograd_grad_input(p, kernels, first, second, result, threads);
    winograd_grad_weight(p, kernels, first, second, result, threads);
}

}  // namespace

const char* Plan::name() const {
    switch (kernel) {
        case Kernel::loops:
            return "direct, plain loops";
        case Kernel::depthwise:
            return "direct, depthwise";
        case Kernel::tiles:
            return "direct, micro-tiles";
        case Kernel::winograd:
            return "winograd";
    }
    return "";
}

Plan make_plan(const Problem& problem, Pass pass, bool wide, const Isa& isa, Algorithm asked) {
    const char* refusal = wide ? "winograd serves float32 only" : winograd_refusal(problem, pass);
    if (asked == Algorithm::winograd && refusal) throw std::invalid_argument(refusal);
    const double work = problem.multiplications();
    Plan plan = {problem,
                 pass,
                 wide,
                 &isa,
                 Kernel::tiles,
                 "",
                 "",
                 work / multiplications_per_second,
                 static_cast<int64_t>(std::clamp(work / work_of_piece, 1.0, most_pieces))};
    if (problem.batch == 0) {
        plan.kernel = asked == Algorithm::winograd ? Kernel::winograd : Kernel::loops;
        plan.reason = "an empty batch leaves nothing to compute";
        return plan;
    }
    const bool pays = !refusal && winograd_pays(problem, pass);
    if (asked == Algorithm::winograd || (asked == Algorithm::any && pays)) {
        plan.kernel = Kernel::winograd;
        plan.reason = pays ? "a tile takes 36 multiplications where direct arithmetic takes 144" : "it is asked for";
        plan.tile = winograd_tile(problem, pass);
        plan.seconds = winograd_multiplications(problem, pass) / multiplications_per_second;
        plan.pieces = winograd_pieces(problem, pass);
    } else if (work <= small_work) {
        plan.kernel = Kernel::loops;
        plan.reason = "the problem is so small that packing would cost more than computing";
    } else if (depthwise_serves(problem)) {
        plan.kernel = Kernel::depthwise;
        plan.reason = "every channel has a filter of its own, so that each number is touched once";
    } else {
        const int64_t columns = pass == Pass::grad_input ? problem.group_inputs() : problem.group_outputs();
        plan.tile = wide ? tile_of(isa.f64, columns) : tile_of(isa.f32, columns);
        plan.reason = asked == Algorithm::direct ? "it is asked for"
                      : refusal ? std::string("it serves every problem, and ") + refusal
                                : "Winograd's tiles and transforms would cost more here than they save";
    }
    return plan;
}

template <class T>
void execute(const Plan& plan, const T* first, const T* second, const T* bias, T* result, int threads) {
    const Problem& p = plan.problem;
    const Kernels<T>& kernels = kernels_of<T>(*plan.isa);
    if (p.batch == 0) {  // no output and no gradient of the input; a sum of nothing for the weights
        if (plan.pass == Pass::grad_weight) std::fill_n(result, p.out_channels * p.group_inputs() * p.taps(), T(0));
        return;
    }
    switch (plan.kernel) {
        case Kernel::winograd:
            return execute_winograd(plan, first, second, bias, result, threads);
        case Kernel::depthwise:
            if (plan.pass == Pass::forward) return depthwise_forward(p, kernels, first, second, bias, result, threads);
            if (plan.pass == Pass::grad_input) return depthwise_grad_input(p, kernels, first, second, result, threads);
            return depthwise_grad_weight(p, kernels, first, second, result, threads);
        case Kernel::tiles:
            if (plan.pass == Pass::forward) return direct_forward(p, kernels, first, second, bias, result, threads);
            if (plan.pass == Pass::grad_input) return direct_grad_input(p, kernels, first, second, result, threads);
            return direct_grad_weight(p, kernels, first, second, result, threads);
        case Kernel::loops:
            if (plan.pass == Pass::forward) return small_forward(p, first, second, bias, result);
            if (plan.pass == Pass::grad_input) return small_grad_input(p, first, second, result);
            return small_grad_weight(p, first, second, result);
    }
}

template void execute(const Plan&, const float*, const float*, const float*, float*, int);
template void execute(const Plan&, const double*, const double*, const double*, double*, int);

}  // namespace backlit
