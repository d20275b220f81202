// Pieces of work spread over threads.
#pragma once

#include <cstdint>

namespace backlit {

// body(context, i) for every i below count, on at most `threads` threads, the caller's among them. Which thread takes
// which piece is open, so no result may depend on it. The first exception reaches the caller, after all pieces that
// were begun have ended; pieces that were not begun by then may never be. May be called from a body, from any number of
// threads at once, and in a forked child. Bodies run with denormals flushed to zero, on 1 MB of stack.
void run_pieces(int64_t count, int threads, void (*body)(const void* context, int64_t index), const void* context);

template <class Body>
void parallel_for(int64_t count, int threads, const Body& body) {
    run_pieces(
        count, threads, [](const void* context, int64_t index) { (*static_cast<const Body*>(context))(index); }, &body);
}

}  // namespace backlit
