// A program that compares every algorithm and instruction set with the plain loops, for machines without Python (an
// emulated aarch64: `nox -s aarch64`). Small integers must come out bit for bit, but for Winograd.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <new>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "cpu.h"
#include "engine.h"
#include "memory.h"
#include "pool.h"
#include "small.h"
#include "threads.h"

using namespace backlit;

namespace {

int failures = 0, comparisons = 0;

void expect(bool holds, const std::string& claim) {
    ++comparisons;
    if (holds) return;
    ++failures;
    std::printf("FAILED: %s\n", claim.c_str());
}

std::vector<const Isa*> tables() {
    const Isa* all[] = {
        &isa_baseline,
#if defined(__x86_64__)
        &isa_avx2,
        &isa_avx512,
#endif
    };
    std::vector<const Isa*> here;
    for (const std::string& name : isas()) {
        for (const Isa* isa : all) {
            if (name == isa->name) here.push_back(isa);
        }
    }
    return here;
}

std::mt19937_64 randomness(7);

int64_t between(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(randomness); }

// An axis of an output that is not empty.
Axis random_axis(int64_t most) {
    Axis axis;
    axis.kernel = between(1, 4);
    axis.stride = between(1, 3);
    axis.dilation = between(1, 2);
    axis.pad = between(0, 2);
    const int64_t reach = axis.dilation * (axis.kernel - 1) + 1;
    axis.input = between(std::max<int64_t>(1, reach - 2 * axis.pad), most + reach);
    axis.output = (axis.input + 2 * axis.pad - reach) / axis.stride + 1;
    return axis;
}

Problem random_problem() {
    Problem p;
    const int64_t axes = between(1, 3);
    p.batch = between(1, 3);
    p.groups = between(0, 3) == 0 ? between(2, 3) : 1;
    p.in_channels = p.groups * between(1, 20);
    p.out_channels = p.groups * between(1, 40);
    for (int64_t i = 3 - axes; i < 3; ++i) p.axis[i] = random_axis(axes == 3 ? 5 : 12);
    p.channels_last = between(0, 1) == 1;
    return p;
}

// 3x3, stride 1: what Winograd serves.
Problem square_problem(int64_t channels, int64_t filters, int64_t size, int64_t pad, bool channels_last) {
    Problem p;
    p.batch = 2;
    p.in_channels = channels;
    p.out_channels = filters;
    p.channels_last = channels_last;
    for (int i : {1, 2}) p.axis[i] = {size + i, size + i + 2 * pad - 2, 3, 1, 1, pad};
    return p;
}

std::string name(const Problem& p) {
    std::string text = "n" + std::to_string(p.batch) + " c" + std::to_string(p.in_channels) + "-" +
                       std::to_string(p.out_channels) + " g" + std::to_string(p.groups);
    for (const Axis& a : p.axis) {
        text += " i" + std::to_string(a.input) + "k" + std::to_string(a.kernel) + "s" + std::to_string(a.stride) + "d" +
                std::to_string(a.dilation) + "p" + std::to_string(a.pad);
    }
    return text + (p.channels_last ? " channels last" : " channels first");
}

template <class T>
std::vector<T> integers(int64_t count) {
    std::vector<T> values(static_cast<size_t>(count));
    for (T& value : values) value = static_cast<T>(between(-3, 3));
    return values;
}

template <class T>
void compare(const std::vector<T>& got, const std::vector<T>& wanted, bool exact, const std::string& claim) {
    double squares = 0, worst = 0;
    for (size_t i = 0; i < got.size(); ++i) {
        squares += static_cast<double>(wanted[i]) * static_cast<double>(wanted[i]);
        const double error = std::abs(static_cast<double>(got[i]) - static_cast<double>(wanted[i]));
        worst = error <= worst ? worst : error;  // NaN counts as the worst
    }
    const double rms = std::sqrt(squares / static_cast<double>(got.size()));
    const double most = exact ? 0 : 1e-4 * rms + 1e-4;
    expect(worst <= most, claim + ": off by " + std::to_string(worst) + ", allowed " + std::to_string(most));
}

template <class T>
void check(const Problem& p, Algorithm algorithm, const std::vector<const Isa*>& isas) {
    const auto x = integers<T>(p.batch * p.in_channels * p.inputs());
    const auto w = integers<T>(p.out_channels * p.group_inputs() * p.taps()), b = integers<T>(p.out_channels);
    const auto dy = integers<T>(p.batch * p.out_channels * p.outputs());
    std::vector<T> y(dy.size()), dx(x.size()), dw(w.size());
    small_forward(p, x.data(), w.data(), b.data(), y.data());
    small_grad_input(p, w.data(), dy.data(), dx.data());
    small_grad_weight(p, x.data(), dy.data(), dw.data());
    struct {
        Pass pass;
        const char* name;
        const T *first, *second, *bias;
        const std::vector<T>& wanted;
    } passes[] = {{Pass::forward, "forward", x.data(), w.data(), b.data(), y},
                  {Pass::grad_input, "gradient of the input", w.data(), dy.data(), nullptr, dx},
                  {Pass::grad_weight, "gradient of the weights", x.data(), dy.data(), nullptr, dw}};
    for (const Isa* isa : isas) {
        for (const auto& pass : passes) {
            const std::string what =
                std::string(isa->name) + ", float" + std::to_string(8 * sizeof(T)) + ", " + pass.name;
            try {
                const Plan plan = make_plan(p, pass.pass, sizeof(T) == 8, *isa, algorithm);
                std::vector<T> first;
                for (const int threads : {1, 3}) {
                    std::vector<T> got(pass.wanted.size(), std::numeric_limits<T>::quiet_NaN());
                    execute(plan, pass.first, pass.second, pass.bias, got.data(), threads);
                    const std::string claim = what + ", " + plan.name() + ", " + name(p);
                    compare(got, pass.wanted, plan.kernel != Kernel::winograd, claim);
                    if (threads == 1) first = got;
                    expect(got == first, claim + ": other bits on 3 threads");
                }
            } catch (const std::invalid_argument&) {  // this algorithm does not serve the problem
            }
        }
    }
}

// visit(x offset, y offset, tap) for all that the windows of a pool read, window by window, taps in row-major order.
template <class Visit>
void each_read(const Problem& p, Visit visit) {
    const Strides xs = p.input_strides(), ys = p.output_strides();
    const int64_t sizes[] = {p.batch, p.in_channels, p.axis[0].output, p.axis[1].output, p.axis[2].output};
    for (int64_t window = 0; window < p.batch * p.in_channels * p.outputs(); ++window) {
        int64_t at[5], rest = window;
        for (int i = 4; i >= 0; --i) {
            at[i] = rest % sizes[i];
            rest /= sizes[i];
        }
        const int64_t y =
            at[0] * ys.batch + at[1] * ys.channel + at[2] * ys.axis[0] + at[3] * ys.axis[1] + at[4] * ys.axis[2];
        for (int64_t tap = 0; tap < p.taps(); ++tap) {
            const int64_t taps[] = {tap / p.axis[2].kernel / p.axis[1].kernel,
                                    tap / p.axis[2].kernel % p.axis[1].kernel, tap % p.axis[2].kernel};
            int64_t x = at[0] * xs.batch + at[1] * xs.channel;
            bool inside = true;
            for (int i = 0; i < 3; ++i) {
                const Axis& a = p.axis[i];
                const int64_t position = a.stride * at[2 + i] + a.dilation * taps[i] - a.pad;
                inside = inside && position >= 0 && position < a.input;
                x += position * xs.axis[i];
            }
            if (inside) visit(x, y, tap);
        }
    }
}

template <class T>
void check_pools(Problem p, const std::vector<const Isa*>& isas) {
    p.groups = p.out_channels = p.in_channels;
    const auto x = integers<T>(p.batch * p.in_channels * p.inputs());
    const auto dy = integers<T>(p.batch * p.in_channels * p.outputs());
    const std::vector<double> divisors(static_cast<size_t>(p.outputs()), 2.0);
    std::vector<T> largest(dy.size(), -std::numeric_limits<T>::infinity()), average(dy.size()), won(x.size()),
        shared(x.size());
    std::vector<uint16_t> winners(dy.size(), static_cast<uint16_t>(p.taps()));
    std::vector<int64_t> from(dy.size(), -1);
    each_read(p, [&](int64_t i, int64_t o, int64_t tap) {
        average[o] += x[i] / 2;
        shared[i] += dy[o] / 2;
        if (from[o] >= 0 && x[i] <= largest[o]) return;
        largest[o] = x[i];
        winners[o] = static_cast<uint16_t>(tap);
        from[o] = i;
    });
    for (size_t o = 0; o < dy.size(); ++o) {
        if (from[o] >= 0) won[from[o]] += dy[o];
    }
    for (const Isa* isa : isas) {
        const Kernels<T>& kernels = kernels_of<T>(*isa);
        for (const int threads : {1, 3}) {
            const std::string what = std::string(isa->name) + ", pool, " + name(p);
            std::vector<T> y(dy.size()), dx(x.size());
            std::vector<uint16_t> taps(dy.size());
            max_pool_forward(p, kernels, x.data(), y.data(), taps.data(), threads);
            expect(y == largest && taps == winners, what + ": largest");
            max_pool_backward(p, kernels, dy.data(), winners.data(), dx.data(), threads);
            expect(dx == won, what + ": gradient of the largest");
            avg_pool_forward(p, kernels, x.data(), divisors.data(), y.data(), threads);
            expect(y == average, what + ": average");
            avg_pool_backward(p, kernels, dy.data(), divisors.data(), dx.data(), threads);
            expect(dx == shared, what + ": gradient of the average");
        }
    }
}

void check_threads() {
    std::atomic<int> pieces{0};
    const auto nested = [&] { parallel_for(5, 4, [&](int64_t) { parallel_for(7, 4, [&](int64_t) { ++pieces; }); }); };
    std::vector<std::thread> callers;
    for (int i = 0; i < 8; ++i)
        callers.emplace_back([&] {
            for (int turn = 0; turn < 50; ++turn) nested();
        });
    for (std::thread& caller : callers) caller.join();
    expect(pieces == 8 * 50 * 35, "eight threads at once do every piece of nested loops once");
    for (int failing = 0; failing < 20; ++failing) {
        bool caught = false;
        try {
            parallel_for(20, 4, [&](int64_t i) {
                if (i == failing) throw std::runtime_error("as was asked for");
            });
        } catch (const std::runtime_error&) {
            caught = true;
        }
        expect(caught, "an error in a piece of work reaches the caller");
    }
}

void check_process() {
    const volatile float denormal = std::numeric_limits<float>::min() / 4;
    const volatile float one = 1;
    std::vector<float> products(64, -1.0f);
    parallel_for(64, 4, [&](int64_t i) { products[static_cast<size_t>(i)] = denormal * one; });
    for (const float product : products) expect(product == 0, "denormals are flushed to zero in every piece of work");
    const volatile float after = denormal * one;
    expect(after != 0, "the caller's mode is restored");

    void* blocks[] = {allocate(0), allocate(100), allocate(100000), allocate(9000000)};
    for (void* block : blocks) {
        expect(reinterpret_cast<uintptr_t>(block) % alignment == 0, "memory is aligned");
        release(block);
    }
    bool refused = false;
    try {
        allocate(SIZE_MAX);
    } catch (const std::bad_alloc&) {
        refused = true;
    }
    expect(refused, "memory that cannot exist is refused");
    expect(pool_figures().live == 0, "released memory is not live");
    empty_pool();
    expect(pool_figures().idle == 0, "an empty pool keeps nothing");
}

}  // namespace

int main(int count, char** arguments) {
    const int problems = count > 1 ? std::atoi(arguments[1]) : 60;
    const std::vector<const Isa*> isas = tables();
    check_process();
    check_threads();
    for (int i = 0; i < problems; ++i) {
        const Problem p = random_problem();
        check<float>(p, Algorithm::any, isas);
        check<float>(p, Algorithm::direct, isas);
        check<double>(p, Algorithm::any, isas);
        check_pools<float>(p, isas);
        check_pools<double>(p, isas);
    }
    for (const bool channels_last : {false, true}) {
        for (const int64_t channels : {3, 9, 16, 33, 64}) {
            for (const int64_t size : {5, 14, 29}) {
                const Problem p = square_problem(channels, 41 - channels / 2, size, size == 5 ? 0 : 1, channels_last);
                check<float>(p, Algorithm::winograd, isas);
                check<float>(p, Algorithm::direct, isas);
                check<double>(p, Algorithm::direct, isas);
            }
        }
    }
    std::printf("%d of %d comparisons failed; instruction sets:", failures, comparisons);
    for (const Isa* isa : isas) std::printf(" %s", isa->name);
    std::printf("\n");
    return failures == 0 ? 0 : 1;
}
