#include "small.h"

#include <algorithm>

namespace backlit {
namespace {

// The taps of an axis at which output position o reads an input position: from `first` to below `last`.
struct Reach {
    int64_t first, last;
};

Reach reach(const Axis& axis, int64_t o) {
    const int64_t start = axis.stride * o - axis.pad;  // what tap 0 reads
    const int64_t first = start < 0 ? ceil_div(-start, axis.dilation) : 0;
    const int64_t last = start < axis.input ? (axis.input - 1 - start) / axis.dilation + 1 : 0;
    return {first, std::max(first, std::min(last, axis.kernel))};
}

// visit(x offset, w offset, y offset) for every triple of the incidence, output by output; begin(y offset) and
// end(y offset) around the triples of one output element.
template <class Begin, class Visit, class End>
void each_triple(const Problem& p, Begin begin, Visit visit, End end) {
    const Strides xs = p.input_strides(), ys = p.output_strides();
    const WeightStrides ws = p.weight_strides();
    const int64_t inputs = p.group_inputs(), outputs = p.group_outputs();
    const Axis &depth = p.axis[0], &height = p.axis[1], &width = p.axis[2];
    for (int64_t n = 0; n < p.batch; ++n)
        for (int64_t o0 = 0; o0 < depth.output; ++o0)
            for (int64_t o1 = 0; o1 < height.output; ++o1)
                for (int64_t o2 = 0; o2 < width.output; ++o2) {
                    const Reach r0 = reach(depth, o0), r1 = reach(height, o1), r2 = reach(width, o2);
                    const int64_t corner = n * xs.batch + (depth.stride * o0 - depth.pad) * xs.axis[0] +
                                           (height.stride * o1 - height.pad) * xs.axis[1] +
                                           (width.stride * o2 - width.pad) * xs.axis[2];
                    const int64_t out = n * ys.batch + o0 * ys.axis[0] + o1 * ys.axis[1] + o2 * ys.axis[2];
                    for (int64_t k = 0; k < p.out_channels; ++k) {
                        const int64_t first_channel = k / outputs * inputs, y = out + k * ys.channel;
                        begin(y, k);
                        for (int64_t c = 0; c < inputs; ++c)
                            for (int64_t t0 = r0.first; t0 < r0.last; ++t0)
                                for (int64_t t1 = r1.first; t1 < r1.last; ++t1)
                                    for (int64_t t2 = r2.first; t2 < r2.last; ++t2)
                                        visit(corner + (first_channel + c) * xs.channel +
                                                  t0 * depth.dilation * xs.axis[0] + t1 * height.dilation * xs.axis[1] +
                                                  t2 * width.dilation * xs.axis[2],
                                              k * ws.filter + c * ws.channel + t0 * ws.tap[0] + t1 * ws.tap[1] +
                                                  t2 * ws.tap[2],
                                              y);
                        end(y);
                    }
                }
}

}  // namespace

template <class T>
void small_forward(const Problem& p, const T* x, const T* w, const T* bias, T* y) {
    T sum = 0;
    each_triple(
        p, [&](int64_t, int64_t k) { sum = bias ? bias[k] : T(0); },
        [&](int64_t i, int64_t j, int64_t) { sum += x[i] * w[j]; }, [&](int64_t o) { y[o] = sum; });
}

template <class T>
void small_grad_input(const Problem& p, const T* w, const T* dy, T* dx) {
    std::fill_n(dx, p.batch * p.in_channels * p.inputs(), T(0));
    each_triple(
        p, [](int64_t, int64_t) {}, [&](int64_t i, int64_t j, int64_t o) { dx[i] += w[j] * dy[o]; }, [](int64_t) {});
}

template <class T>
void small_grad_weight(const Problem& p, const T* x, const T* dy, T* dw) {
    std::fill_n(dw, p.out_channels * p.group_inputs() * p.taps(), T(0));
    each_triple(
        p, [](int64_t, int64_t) {}, [&](int64_t i, int64_t j, int64_t o) { dw[j] += x[i] * dy[o]; }, [](int64_t) {});
}

template void small_forward(const Problem&, const float*, const float*, const float*, float*);
template void small_forward(const Problem&, const double*, const double*, const double*, double*);
template void small_grad_input(const Problem&, const float*, const float*, float*);
template void small_grad_input(const Problem&, const double*, const double*, double*);
template void small_grad_weight(const Problem&, const float*, const float*, float*);
template void small_grad_weight(const Problem&, const double*, const double*, double*);

}  // namespace backlit
