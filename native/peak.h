// What this machine can do at most: arithmetic by the micro-tile on data in the first cache, and traffic with memory.
#pragma once

#include "kernels/table.h"

namespace backlit {

// GFLOP/s (a multiplication and an addition are two) of the widest micro-tile on `threads` threads at once: the best of
// several runs that take `seconds` together.
template <class T>
double measure_peak(const Isa& isa, int threads, double seconds);

// GB/s of a[i] = b[i] + s*c[i] on `threads` threads over arrays that no cache holds, the bytes of all three counted
// once: the best of several runs that take about `seconds` together. Throws std::bad_alloc where memory is short.
double measure_bandwidth(int threads, double seconds);

}  // namespace backlit
