#include "engine.h"

#include <algorithm>
#include <stdexcept>

#include "depthwise.h"
#include "direct.h"
#include "small.h"
#include "winograd.h"

namespace backlit {
namespace {

constexpr double small_work = 4096;                  // multiplications up to which plain loops are fastest
constexpr double multiplications_per_second = 40e9;  // on one thread: the scale of an estimate, not a measurement

// Winograd's kernels are float's alone, and so are the plans that name it.
template <class T>
void execute_winograd(const Plan&, const T*, const T*, const T*, T*, int) {}
template <>
void execute_winograd(const Plan& plan, const float* first, const float* second, const float* bias, float* result,
                      int threads) {
    const Kernels<float>& kernels = plan.isa->f32;
    switch (plan.pass) {
        case Pass::forward:
            return winograd_forward(plan.problem, kernels, first, second, bias, result, threads);
        case Pass::grad_input:
            return winograd_grad_input(plan.problem, kernels, first, second, result, threads);
        case Pass::grad_weight:
            return winograd_grad_weight(plan.problem, kernels, first, second, result, threads);
    }
}

}  // namespace

Plan make_plan(const Problem& problem, Pass pass, bool wide, const Isa& isa, Algorithm asked) {
    const char* refusal = wide ? "winograd serves float32 only" : winograd_refusal(problem, pass);
    if (asked == Algorithm::winograd && refusal) throw std::invalid_argument(refusal);
    const double work = problem.multiplications();
    const bool pays = asked == Algorithm::any && !refusal && winograd_pays(problem, pass);
    if (asked == Algorithm::winograd || pays) {
        return {problem,
                pass,
                wide,
                &isa,
                Algorithm::winograd,
                "winograd",
                pays ? "a tile takes 36 multiplications for 144" : "asked for",
                winograd_tile(problem, pass),
                winograd_multiplications(problem, pass) / multiplications_per_second,
                winograd_pieces(problem, pass)};
    }
    Plan plan = {problem,
                 pass,
                 wide,
                 &isa,
                 Algorithm::direct,
                 "direct",
                 "every configuration",
                 "",
                 work / multiplications_per_second,
                 1};
    if (work <= small_work) {
        plan.name = "direct, plain loops";
        plan.reason = "the problem is so small that packing would cost more than computing";
        return plan;
    }
    if (depthwise_serves(problem)) {
        plan.name = "direct, depthwise";
        plan.reason = "every channel has its own filter, so each number is touched once";
        plan.pieces = 32;
        return plan;
    }
    const int64_t last = (wide ? isa.f64.shapes : isa.f32.shapes) - 1;
    plan.tile = wide ? std::to_string(isa.f64.shape[last].rows) + "x" + std::to_string(isa.f64.shape[last].columns)
                     : std::to_string(isa.f32.shape[last].rows) + "x" + std::to_string(isa.f32.shape[last].columns);
    plan.pieces = 32;
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
    if (plan.algorithm == Algorithm::winograd) return execute_winograd(plan, first, second, bias, result, threads);
    const bool small = p.multiplications() <= small_work;
    if (!small && depthwise_serves(p)) {
        switch (plan.pass) {
            case Pass::forward:
                return depthwise_forward(p, kernels, first, second, bias, result, threads);
            case Pass::grad_input:
                return depthwise_grad_input(p, kernels, first, second, result, threads);
            case Pass::grad_weight:
                return depthwise_grad_weight(p, kernels, first, second, result, threads);
        }
    }
    switch (plan.pass) {
        case Pass::forward:
            return small ? small_forward(p, first, second, bias, result)
                         : direct_forward(p, kernels, first, second, bias, result, threads);
        case Pass::grad_input:
            return small ? small_grad_input(p, first, second, result)
                         : direct_grad_input(p, kernels, first, second, result, threads);
        case Pass::grad_weight:
            return small ? small_grad_weight(p, first, second, result)
                         : direct_grad_weight(p, kernels, first, second, result, threads);
    }
}

template void execute(const Plan&, const float*, const float*, const float*, float*, int);
template void execute(const Plan&, const double*, const double*, const double*, double*, int);

}  // namespace backlit
