// The Python module backlit._native. No other file sees Python.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "cpu.h"

NB_MODULE(_native, m) {
    using namespace nanobind::literals;
    m.doc() = "The native part of backlit. Internal: backlit.engines is the way to it.";
    m.def("isas", &backlit::isas, "Instruction sets that can run here, the plainest first.");
    m.def("usable_threads", &backlit::usable_threads, "Threads that can run at once here, at least 1.");
    m.def("cpu_quota", &backlit::cpu_quota, "root"_a = "",
          "Processors' worth of time that the control groups allow; infinity for no limit.");
    m.def("compiler", &backlit::compiler, "Name and version of the compiler that built this module.");
}
