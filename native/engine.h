// The three maps of a convolution: a plan, made once per problem, and its execution.
#pragma once

#include <string>

#include "kernels/table.h"
#include "problem.h"

namespace backlit {

enum class Pass { forward, grad_input, grad_weight };
enum class Algorithm { any, direct, winograd };
enum class Kernel { loops, tiles, depthwise, winograd };  // direct has three

struct Plan {
    Problem problem;
    Pass pass;
    bool wide;  // float64
    const Isa* isa;
    Kernel kernel;
    std::string reason;  // why this one
    std::string tile;    // the micro-tile or the Winograd tile, for people; empty where there is none
    double seconds;      // an estimate of the work on one thread
    int64_t pieces;      // about how many pieces of work there are to spread over threads

    const char* name() const;  // the algorithm's, with the kernel that it uses
};

// Chosen from the problem alone, never from the number of threads. Throws std::invalid_argument with a sentence that
// says why where the algorithm that is asked for cannot serve the problem.
Plan make_plan(const Problem& problem, Pass pass, bool wide, const Isa& isa, Algorithm asked);

// Forward: first = x, second = w, bias or null, result = y. Gradient of the input: first = w, second = dy, result = dx.
// Gradient of the weights: first = x, second = dy, result = dw. Arrays are C-contiguous in the problem's layout; the
// result is overwritten, all of it, and has the same bits for any number of threads.
template <class T>
void execute(const Plan& plan, const T* first, const T* second, const T* bias, T* result, int threads);

}  // namespace backlit
