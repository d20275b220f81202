#include "engine.h"

#include <stdexcept>

#include "small.h"

namespace backlit {

Plan make_plan(const Problem& problem, Pass pass, bool wide, const Isa& isa, Algorithm asked) {
    if (asked == Algorithm::winograd) throw std::invalid_argument("winograd serves 3x3 kernels of stride 1");
    return {problem, pass, wide, &isa, Algorithm::direct, "direct, plain loops", "the problem is small", "none",
            problem.multiplications() / 1e9, 1};
}

template <class T>
void execute(const Plan& plan, const T* first, const T* second, const T* bias, T* result, int) {
    switch (plan.pass) {
        case Pass::forward:
            return small_forward(plan.problem, first, second, bias, result);
        case Pass::grad_input:
            return small_grad_input(plan.problem, first, second, result);
        case Pass::grad_weight:
            return small_grad_weight(plan.problem, first, second, result);
    }
}

template void execute(const Plan&, const float*, const float*, const float*, float*, int);
template void execute(const Plan&, const double*, const double*, const double*, double*, int);

}  // namespace backlit
