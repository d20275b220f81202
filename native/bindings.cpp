// The Python module backlit._native. No other file sees Python.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define NPY_TARGET_VERSION NPY_2_0_API_VERSION
#include <cxxabi.h>
#include <numpy/arrayobject.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu.h"
#include "denormals.h"
#include "engine.h"
#include "memory.h"
#include "peak.h"
#include "threads.h"

namespace nb = nanobind;

namespace backlit {
namespace {

constexpr double worth_letting_go = 20e-6;  // seconds of work for which other Python threads may take the GIL

using Sizes = std::vector<int64_t>;

// Lets other Python threads run during its lifetime. An interpreter that exits meanwhile ends a thread that asks for
// the GIL again (before Python 3.14) by unwinding its stack, through our destructors, which need the GIL themselves:
// here such a thread sleeps until the process has ended.
class WithoutGil {
  public:
    WithoutGil() : state_(PyEval_SaveThread()) {}
    ~WithoutGil() {
        try {
            PyEval_RestoreThread(state_);
        } catch (const abi::__forced_unwind&) {
            for (;;) pause();
        }
    }
    WithoutGil(const WithoutGil&) = delete;
    WithoutGil& operator=(const WithoutGil&) = delete;

  private:
    PyThreadState* state_;
};

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

// The memory of an argument in C order: the array's own, or a copy's where the array is strided or misaligned.
template <class T>
class Argument {
  public:
    Argument(const char* name, nb::handle given, int type, int64_t count) {
        if (!PyArray_Check(given.ptr()) || PyArray_TYPE(array(given)) != type || PyArray_SIZE(array(given)) != count) {
            throw std::invalid_argument(std::string(name) + " is not the array that the plan was made for");
        }
        constexpr int usual = NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED;
        if (PyArray_CHKFLAGS(array(given), usual) && PyArray_ISNOTSWAPPED(array(given))) {
            held_ = nb::borrow(given);
        } else {
            PyArray_Descr* wanted = PyArray_DescrFromType(type);
            held_ = nb::steal(PyArray_FromArray(array(given), wanted, usual));
            if (!held_.is_valid()) throw nb::python_error();
        }
    }
    const T* data() const { return static_cast<const T*>(PyArray_DATA(array(held_))); }

  private:
    static PyArrayObject* array(nb::handle object) { return reinterpret_cast<PyArrayObject*>(object.ptr()); }

    nb::object held_;
};

// A new array over memory of our own, which it gives back when it dies; contents undefined.
template <class T>
class Result {
  public:
    Result(const Sizes& shape, int type) {
        int64_t count = 1;
        for (const int64_t size : shape) count *= size;
        data_ = static_cast<T*>(allocate(static_cast<size_t>(count) * sizeof(T)));
        nb::object owner = nb::steal(
            PyCapsule_New(data_, nullptr, [](PyObject* capsule) { release(PyCapsule_GetPointer(capsule, nullptr)); }));
        if (!owner.is_valid()) {
            release(data_);
            throw nb::python_error();
        }
        static_assert(sizeof(npy_intp) == sizeof(int64_t));
        array_ = nb::steal(PyArray_New(&PyArray_Type, static_cast<int>(shape.size()),
                                       reinterpret_cast<const npy_intp*>(shape.data()), type, nullptr, data_, 0,
                                       NPY_ARRAY_CARRAY, nullptr));
        if (!array_.is_valid() ||
            PyArray_SetBaseObject(reinterpret_cast<PyArrayObject*>(array_.ptr()), owner.release().ptr()) < 0) {
            throw nb::python_error();
        }
    }
    T* data() const { return data_; }
    nb::object array() { return std::move(array_); }

  private:
    T* data_;
    nb::object array_;
};

int64_t product(const Sizes& sizes) {
    int64_t result = 1;
    for (const int64_t size : sizes) result *= size;
    return result;
}

std::string written(const Sizes& shape) {
    std::string text;
    for (const int64_t size : shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
    return "(" + text + (shape.size() == 1 ? ",)" : ")");
}

[[noreturn]] void refuse_for_memory(const std::string& operation, const Sizes& shape, size_t itemsize) {
    const std::string bytes = std::to_string(static_cast<double>(product(shape)) * static_cast<double>(itemsize) / 1e6);
    PyErr_Format(PyExc_MemoryError,
                 "%s needs %s MB for its result of shape %s, and some MB to work in, and the system does not grant "
                 "them: compute fewer samples at a time.",
                 operation.c_str(), bytes.substr(0, bytes.find('.') + 2).c_str(), written(shape).c_str());
    throw nb::python_error();
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
    const char* algorithm() const { return plan_.algorithm == Algorithm::winograd ? "winograd" : "direct"; }

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
        constexpr int type = sizeof(T) == sizeof(double) ? NPY_DOUBLE : NPY_FLOAT;
        const Argument<T> a("first", first, type, first_), b("second", second, type, second_);
        std::optional<Argument<T>> c;
        if (!bias.is_none()) c.emplace("bias", bias, type, plan_.problem.out_channels);
        try {
            Result<T> result(shape_, type);
            const T* offset = c ? c->data() : nullptr;
            const FlushDenormals mode;
            if (plan_.seconds < worth_letting_go) {
                execute(plan_, a.data(), b.data(), offset, result.data(), threads);
            } else {
                WithoutGil others_may_run;
                execute(plan_, a.data(), b.data(), offset, result.data(), threads);
            }
            return result.array();
        } catch (const std::bad_alloc&) {
            refuse_for_memory(operation_, shape_, sizeof(T));
        }
    }

    std::string operation_;
    Sizes shape_;
    Plan plan_;
    int64_t first_, second_;  // elements of the arguments
};

bool import_numpy() { return _import_array() >= 0; }

}  // namespace
}  // namespace backlit

NB_MODULE(_native, m) {
    using namespace nanobind::literals;
    using backlit::ConvPlan;
    if (!backlit::import_numpy()) throw nb::python_error();
    nb::set_leak_warnings(false);  // plans are remembered, and threads may use them, until the process ends
    m.doc() = "The native part of backlit. Internal: backlit.engines is the way to it.";
    m.def("isas", &backlit::isas, "Instruction sets that can run here, the plainest first.");
    m.def("usable_threads", &backlit::usable_threads, "Threads that can run at once here, at least 1.");
    m.def("cpu_quota", &backlit::cpu_quota, "root"_a = "",
          "Processors' worth of time that the control groups allow; infinity for no limit.");
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
        .def_prop_ro("kernel", [](const ConvPlan& self) { return self.plan().name; })
        .def_prop_ro("reason", [](const ConvPlan& self) { return self.plan().reason; })
        .def_prop_ro("tile", [](const ConvPlan& self) { return self.plan().tile; })
        .def_prop_ro("isa", [](const ConvPlan& self) { return std::string(self.plan().isa->name); })
        .def_prop_ro("seconds", [](const ConvPlan& self) { return self.plan().seconds; })
        .def_prop_ro("pieces", [](const ConvPlan& self) { return self.plan().pieces; });
}
