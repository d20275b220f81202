// The Python module backlit._native. No other file sees Python.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "cpu.h"
#include "memory.h"

namespace nb = nanobind;

NB_MODULE(_native, m) {
    using namespace nanobind::literals;
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
    m.def("compiler", &backlit::compiler, "Name and version of the compiler that built this module.");
}
