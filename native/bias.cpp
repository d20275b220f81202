#include "bias.h"

#include <algorithm>

#include "memory.h"
#include "problem.h"
#include "threads.h"

namespace backlit {
namespace {

constexpr int64_t worth_a_piece = 1 << 15;  // elements that a piece of work adds up, at the least
constexpr int64_t most_pieces = 64;         // of rows, each with private sums
constexpr int64_t most_sums = 1 << 18;      // of all pieces together
constexpr int lanes = 16;                   // sums side by side, so that no addition waits for the one before

template <class T>
double sum(const T* values, int64_t count) {
    double sums[lanes] = {}, total = 0;
    int64_t i = 0;
    for (; i + lanes <= count; i += lanes) {
        for (int lane = 0; lane < lanes; ++lane) sums[lane] += static_cast<double>(values[i + lane]);
    }
    for (; i < count; ++i) total += static_cast<double>(values[i]);
    for (int lane = 0; lane < lanes; ++lane) total += sums[lane];
    return total;
}

// Channels side by side: pieces of rows, whose sums are added in their order.
template <class T>
void sum_rows(const T* dy, int64_t rows, int64_t channels, T* db, int threads) {
    const int64_t most = std::clamp<int64_t>(most_sums / channels, 1, most_pieces);
    const int64_t step = std::max(ceil_div(worth_a_piece, channels), ceil_div(rows, most));
    const int64_t pieces = std::max<int64_t>(ceil_div(rows, step), 1);
    const Buffer<double> sums(pieces * channels);
    parallel_for(pieces, threads, [&](int64_t piece) {
        double* own = sums.data() + piece * channels;
        std::fill_n(own, channels, 0.0);
        const T* row = dy + piece * step * channels;
        for (int64_t left = std::min(step, rows - piece * step); left > 0; --left, row += channels) {
            for (int64_t k = 0; k < channels; ++k) own[k] += static_cast<double>(row[k]);
        }
    });
    for (int64_t k = 0; k < channels; ++k) {
        double total = 0;
        for (int64_t piece = 0; piece < pieces; ++piece) total += sums[piece * channels + k];
        db[k] = static_cast<T>(total);
    }
}

}  // namespace

template <class T>
void grad_bias(const T* dy, int64_t outer, int64_t channels, int64_t inner, T* db, int threads) {
    if (inner == 1) return sum_rows(dy, outer, channels, db, threads);
    const int64_t together = std::max<int64_t>(1, worth_a_piece / std::max<int64_t>(outer * inner, 1));
    parallel_for(ceil_div(channels, together), threads, [&](int64_t piece) {
        for (int64_t k = piece * together; k < std::min(channels, (piece + 1) * together); ++k) {
            double total = 0;
            for (int64_t n = 0; n < outer; ++n) total += sum(dy + (n * channels + k) * inner, inner);
            db[k] = static_cast<T>(total);
        }
    });
}

template void grad_bias(const float*, int64_t, int64_t, int64_t, float*, int);
template void grad_bias(const double*, int64_t, int64_t, int64_t, double*, int);

}  // namespace backlit
