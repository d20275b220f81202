// The Python module backlit._native. No other file sees Python, but arrays.h, which belongs to this one.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>

#include "arrays.h"
#include "bias.h"
#include "cpu.h"
#include "engine.h"
#include "memory.h"
#include "peak.h"
#include "pool.h"
#include "threads.h"

namespace backlit {
namespace {

// For tests: the pieces of as many nested loops as there are counts, the `failing`-th of which throws.
int64_t count_pieces(const Sizes& counts, int threads, int64_t failing) {
    std::atomic<int64_t> done{0};
    const std::function<void(size_t)> loop = [&](size_t depth) {
        if (depth < counts.size()) return parallel_for(counts[depth], threads, [&](int64_t) { loop(depth + 1); });
        if (done++ == failing) throw std::runtime_error("a piece of work failed, as was asked for");
    };
    loop(0);
    return done;
}

// The table of an instruction set by its name, if this processor has it.
const Isa& isa_named(const std::string& name) {
    const Isa* tables[] = {
        &isa_baseline,
#if defined(__x86_64__)
        &isa_avx2,
        &isa_avx512,
#endif
    };
    for (const std::string& here : isas()) {
        for (const Isa* table : tables) {
            if (here == name && name == table->name) return *table;
        }
    }
    throw std::invalid_argument("this processor does not have the instruction set " + name);
}

// Sizes of the axes that a problem has, the outermost first, as `Problem` keeps them: the last of its three axes.
Problem make_problem(int64_t batch, int64_t in_channels, int64_t out_channels, int64_t groups, const Sizes& input,
                     const Sizes& output, const Sizes& kernel, const Sizes& stride, const Sizes& dilation,
                     const Sizes& pad, bool channels_last) {
    const size_t axes = input.size();
    for (const Sizes* sizes : {&output, &kernel, &stride, &dilation, &pad}) {
        if (sizes->size() != axes || axes < 1 || axes > 3)
            throw std::invalid_argument("a problem has one to three axes");
    }
    Problem p;
    p.batch = batch;
    p.in_channels = in_channels;
    p.out_channels = out_channels;
    p.groups = groups;
    p.channels_last = channels_last;
    for (size_t i = 0; i < axes; ++i) {
        // A stride that is never taken and a dilation between no taps are 1, so that nothing has to look for them.
        p.axis[3 - axes + i] = {
            input[i], output[i], kernel[i], output[i] == 1 ? 1 : stride[i], kernel[i] == 1 ? 1 : dilation[i], pad[i]};
    }
    return p;
}

// One pass of one convolution in one precision, ready to run; immutable.
class ConvPlan {
  public:
    ConvPlan(const std::string& operation, const Problem& problem, bool wide, const std::string& isa,
             const std::string& algorithm, const Sizes& shape)
        : operation_(operation),
          shape_(shape),
          plan_(make_plan(problem, pass_named(operation), wide, isa_named(isa), algorithm_named(algorithm))) {
        const int64_t x = problem.batch * problem.in_channels * problem.inputs();
        const int64_t w = problem.out_channels * problem.group_inputs() * problem.taps();
        const int64_t y = problem.batch * problem.out_channels * problem.outputs();
        first_ = plan_.pass == Pass::grad_input ? w : x;
        second_ = plan_.pass == Pass::forward ? w : y;
        const int64_t result = plan_.pass == Pass::forward ? y : plan_.pass == Pass::grad_input ? x : w;
        if (product(shape) != result) throw std::invalid_argument("shape is not that of the result");
    }

    nb::object run(nb::handle first, nb::handle second, nb::handle bias, int threads) const {
        return plan_.wide ? run_as<double>(first, second, bias, threads) : run_as<float>(first, second, bias, threads);
    }

    const Plan& plan() const { return plan_; }
    const char* algorithm() const { return plan_.kernel == Kernel::winograd ? "winograd" : "direct"; }

  private:
    static Pass pass_named(const std::string& operation) {
        if (operation == "conv_forward") return Pass::forward;
        if (operation == "conv_grad_input") return Pass::grad_input;
        if (operation == "conv_grad_weight") return Pass::grad_weight;
        throw std::invalid_argument("there is no operation " + operation);
    }

    static Algorithm algorithm_named(const std::string& name) {
        if (name.empty()) return Algorithm::any;
        if (name == "direct") return Algorithm::direct;
        if (name == "winograd") return Algorithm::winograd;
        throw std::invalid_argument("there is no algorithm " + name);
    }

    template <class T>
    nb::object run_as(nb::handle first, nb::handle second, nb::handle bias, int threads) const {
        const Argument<T> a("first", first, first_), b("second", second, second_);
        std::optional<Argument<T>> c;
        if (!bias.is_none()) c.emplace("bias", bias, plan_.problem.out_channels);
        return or_refuse(operation_, shape_, sizeof(T), [&] {
            Result<T> result(shape_);
            compute(plan_.seconds,
                    [&] { execute(plan_, a.data(), b.data(), c ? c->data() : nullptr, result.data(), threads); });
            return result.array();
        });
    }

    std::string operation_;
    Sizes shape_;
    Plan plan_;
    int64_t first_, second_;  // elements of the arguments
};

// One operation of one pool in one precision, ready to run; immutable.
class PoolPlan {
  public:
    PoolPlan(const std::string& operation, const Problem& problem, bool wide, const std::string& isa,
             const Sizes& shape)
        : operation_(operation), shape_(shape), problem_(problem), wide_(wide), isa_(isa_named(isa)) {
        forward_ = operation == "max_pool_forward" || operation == "avg_pool_forward";
        max_ = operation == "max_pool_forward" || operation == "max_pool_backward";
        if (!forward_ && operation != "max_pool_backward" && operation != "avg_pool_backward") {
            throw std::invalid_argument("there is no operation " + operation);
        }
        x_ = problem.batch * problem.in_channels * problem.inputs();
        y_ = problem.batch * problem.in_channels * problem.outputs();
        if (product(shape) != (forward_ ? y_ : x_)) throw std::invalid_argument("shape is not that of the result");
    }

    // max_pool_forward(x) -> (y, winners), max_pool_backward(dy, winners) -> dx,
    // avg_pool_forward(x, divisors) -> y, avg_pool_backward(dy, divisors) -> dx
    nb::object run(nb::handle first, nb::handle second, int threads) const {
        return wide_ ? run_as<double>(first, second, threads) : run_as<float>(first, second, threads);
    }

    // An estimate of the work on one thread: memory is read and written once, and each tap compared or added.
    double seconds() const {
        return (static_cast<double>(x_) + static_cast<double>(y_) * static_cast<double>(problem_.taps())) / 2e9;
    }
    int64_t pieces() const { return problem_.batch * problem_.in_channels; }

  private:
    template <class T>
    nb::object run_as(nb::handle first, nb::handle second, int threads) const {
        const Argument<T> a("first", first, forward_ ? x_ : y_);
        return or_refuse(operation_, shape_, sizeof(T), [&]() -> nb::object {
            if (!max_) return average(a, second, threads);
            const int64_t taps = problem_.taps();  // the number of a window that reads nothing
            if (taps <= UINT8_MAX) return largest<T, uint8_t>(a, second, threads);
            if (taps <= UINT16_MAX) return largest<T, uint16_t>(a, second, threads);
            if (taps <= UINT32_MAX) return largest<T, uint32_t>(a, second, threads);
            return largest<T, uint64_t>(a, second, threads);
        });
    }

    template <class T, class W>
    nb::object largest(const Argument<T>& a, nb::handle second, int threads) const {
        const Kernels<T>& kernels = kernels_of<T>(isa_);
        Result<T> result(shape_);
        if (forward_) {
            Result<W> winners(shape_);
            compute(seconds(),
                    [&] { max_pool_forward(problem_, kernels, a.data(), result.data(), winners.data(), threads); });
            return nb::make_tuple(result.array(), winners.array());
        }
        const Argument<W> winners("winners", second, y_, true);  // another engine's may be wider
        compute(seconds(),
                [&] { max_pool_backward(problem_, kernels, a.data(), winners.data(), result.data(), threads); });
        return result.array();
    }

    template <class T>
    nb::object average(const Argument<T>& a, nb::handle second, int threads) const {
        const Kernels<T>& kernels = kernels_of<T>(isa_);
        const Argument<double> divisors("divisors", second, problem_.outputs());
        Result<T> result(shape_);
        compute(seconds(), [&] {
            if (forward_) {
                avg_pool_forward(problem_, kernels, a.data(), divisors.data(), result.data(), threads);
            } else {
                avg_pool_backward(problem_, kernels, a.data(), divisors.data(), result.data(), threads);
            }
        });
        return result.array();
    }

    std::string operation_;
    Sizes shape_;
    Problem problem_;
    bool wide_, forward_, max_;
    const Isa& isa_;
    int64_t x_, y_;  // elements of the input and of the output
};

// db of a dy in one precision, ready to run; immutable. The axes of dy are `outer` (samples), `channels` and `inner`
// (positions); with the channels last, positions belong to the outer axis.
class BiasPlan {
  public:
    BiasPlan(int64_t outer, int64_t channels, int64_t inner, bool wide, const Sizes& shape)
        : outer_(outer), channels_(channels), inner_(inner), wide_(wide), shape_(shape) {
        if (product(shape) != channels) throw std::invalid_argument("shape is not that of the result");
    }

    nb::object run(nb::handle dy, int threads) const {
        return wide_ ? run_as<double>(dy, threads) : run_as<float>(dy, threads);
    }

    double seconds() const { return static_cast<double>(outer_ * channels_ * inner_) / 2e9; }
    int64_t pieces() const { return outer_ * channels_; }

  private:
    template <class T>
    nb::object run_as(nb::handle dy, int threads) const {
        const Argument<T> upstream("dy", dy, outer_ * channels_ * inner_);
        return or_refuse("conv_grad_bias", shape_, sizeof(T), [&] {
            Result<T> db(shape_);
            compute(seconds(), [&] { grad_bias(upstream.data(), outer_, channels_, inner_, db.data(), threads); });
            return db.array();
        });
    }

    int64_t outer_, channels_, inner_;
    bool wide_;
    Sizes shape_;
};

// Memory for an array that Python fills: numbers of one byte, of undefined content.
nb::object memory(int64_t count) {
    try {
        return Result<uint8_t>({count}).array();
    } catch (const std::bad_alloc&) {
        const std::string size = written_bytes(static_cast<double>(count));
        PyErr_Format(PyExc_MemoryError, "an array needs %s, and the system does not grant them: %s.", size.c_str(),
                     "compute fewer samples at a time");
        throw nb::python_error();
    }
}

bool import_numpy() { return _import_array() >= 0; }

}  // namespace
}  // namespace backlit

NB_MODULE(_native, m) {
    using namespace nanobind::literals;
    using backlit::ConvPlan;
    namespace nb = nanobind;
    if (!backlit::import_numpy()) throw nb::python_error();
    nb::set_leak_warnings(false);  // plans are remembered, and threads may use them, until the process ends
    m.doc() = "The native part of backlit. Internal: backlit.engines is the way to it.";
    m.def("isas", &backlit::isas, "Instruction sets that can run here, the plainest first.");
    m.def("usable_threads", &backlit::usable_threads, "Threads that can run at once here, at least 1.");
    m.def("cpu_quota", &backlit::cpu_quota, "root"_a = "",
          "Processors' worth of time that the control groups allow; infinity for no limit.");
    m.def("memory", &backlit::memory, "count"_a, "A new array of so many bytes, aligned, of undefined content.");
    m.def("empty_pool", &backlit::empty_pool, "Give the memory that is kept for the next call back to the system.");
    m.def(
        "pool_figures",
        [] {
            const backlit::PoolFigures figures = backlit::pool_figures();
            return nb::make_tuple(figures.live, figures.idle, figures.peak);
        },
        "Bytes of memory in use, bytes kept for the next call, and the most that were in use in large blocks.");
    m.def("_fail_allocation", &backlit::fail_allocation, "n"_a,
          "For tests: let the n-th allocation from now fail, 0 being the next one; below 0, none.");
    m.def(
        "measure_peak",
        [](const std::string& isa, bool wide, int threads, double seconds) {
            const backlit::Isa& table = backlit::isa_named(isa);
            return wide ? backlit::measure_peak<double>(table, threads, seconds)
                        : backlit::measure_peak<float>(table, threads, seconds);
        },
        "isa"_a, "wide"_a, "threads"_a, "seconds"_a, nb::call_guard<backlit::WithoutGil>(),
        "GFLOP/s of the widest micro-tile on data in the first cache.");
    m.def("measure_bandwidth", &backlit::measure_bandwidth, "threads"_a, "seconds"_a,
          nb::call_guard<backlit::WithoutGil>(), "GB/s of a sum of two arrays that no cache holds.");
    m.def("_count_pieces", &backlit::count_pieces, "counts"_a, "threads"_a, "failing"_a = -1,
          nb::call_guard<backlit::WithoutGil>(),
          "For tests: the pieces of as many nested loops as there are counts, the `failing`-th of which raises.");
    m.def("compiler", &backlit::compiler, "Name and version of the compiler that built this module.");

    nb::class_<backlit::Problem>(m, "Problem", "The sizes of a convolution or a pool.")
        .def(
            "__init__",
            [](backlit::Problem* self, int64_t batch, int64_t in_channels, int64_t out_channels, int64_t groups,
               const backlit::Sizes& input, const backlit::Sizes& output, const backlit::Sizes& kernel,
               const backlit::Sizes& stride, const backlit::Sizes& dilation, const backlit::Sizes& pad,
               bool channels_last) {
                new (self)
                    backlit::Problem(backlit::make_problem(batch, in_channels, out_channels, groups, input, output,
                                                           kernel, stride, dilation, pad, channels_last));
            },
            "batch"_a, "in_channels"_a, "out_channels"_a, "groups"_a, "input_size"_a, "output_size"_a, "kernel_size"_a,
            "stride"_a, "dilation"_a, "pad"_a, "channels_last"_a);

    nb::class_<ConvPlan>(m, "ConvPlan", "One pass of one convolution in one precision, ready to run.")
        .def(nb::init<const std::string&, const backlit::Problem&, bool, const std::string&, const std::string&,
                      const backlit::Sizes&>(),
             "operation"_a, "problem"_a, "wide"_a, "isa"_a, "algorithm"_a, "shape"_a)
        .def("run", &ConvPlan::run, "first"_a, "second"_a, "bias"_a.none() = nb::none(), "threads"_a = 1,
             "The result as a new array of the plan's shape.")
        .def_prop_ro("algorithm", &ConvPlan::algorithm)
        .def_prop_ro("kernel", [](const ConvPlan& self) { return self.plan().name(); })
        .def_prop_ro("reason", [](const ConvPlan& self) { return self.plan().reason; })
        .def_prop_ro("tile", [](const ConvPlan& self) { return self.plan().tile; })
        .def_prop_ro("isa", [](const ConvPlan& self) { return std::string(self.plan().isa->name); })
        .def_prop_ro("seconds", [](const ConvPlan& self) { return self.plan().seconds; })
        .def_prop_ro("pieces", [](const ConvPlan& self) { return self.plan().pieces; });

    nb::class_<backlit::PoolPlan>(m, "PoolPlan", "One operation of one pool in one precision, ready to run.")
        .def(nb::init<const std::string&, const backlit::Problem&, bool, const std::string&, const backlit::Sizes&>(),
             "operation"_a, "problem"_a, "wide"_a, "isa"_a, "shape"_a)
        .def("run", &backlit::PoolPlan::run, "first"_a, "second"_a.none() = nb::none(), "threads"_a = 1,
             "The result as a new array of the plan's shape; of max_pool_forward, also the winners.")
        .def_prop_ro("seconds", &backlit::PoolPlan::seconds)
        .def_prop_ro("pieces", &backlit::PoolPlan::pieces);

    nb::class_<backlit::BiasPlan>(m, "BiasPlan", "The gradient of a bias in one precision, ready to run.")
        .def(nb::init<int64_t, int64_t, int64_t, bool, const backlit::Sizes&>(), "outer"_a, "channels"_a, "inner"_a,
             "wide"_a, "shape"_a)
        .def("run", &backlit::BiasPlan::run, "dy"_a, "threads"_a = 1, "db as a new array of the plan's shape.")
        .def_prop_ro("seconds", &backlit::BiasPlan::seconds)
        .def_prop_ro("pieces", &backlit::BiasPlan::pieces);
}
