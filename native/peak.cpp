#include "peak.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>

#include "memory.h"
#include "threads.h"

namespace backlit {
namespace {

constexpr int bursts = 25, sweeps = 5;  // short ones, so that some of them go undisturbed on a busy machine
constexpr int64_t steps = 256;          // of a tile: long enough that its beginning and end cost little
constexpr int64_t calls = 64;           // between two looks at the clock
constexpr int64_t numbers = 16 << 20;   // floats of each array, 64 MB
constexpr int64_t piece = 1 << 16;      // floats that a thread takes at a time

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Compute tiles until the clock says `end`; how many there were.
template <class T>
int64_t tiles_until(double end, const TileShape<T>& shape) {
    Buffer<T> a(shape.rows * steps), b(shape.columns * steps), c(shape.rows * shape.columns), init(shape.columns);
    std::fill_n(a.data(), shape.rows * steps, T(1));
    std::fill_n(b.data(), shape.columns * steps, T(1));
    std::fill_n(init.data(), shape.columns, T(0));
    const int64_t start = 0;
    Tile<T> tile = {};
    tile.a = a.data();
    tile.b = b.data();
    tile.c = c.data();
    tile.a_row = steps;
    tile.a_step = 1;
    tile.b_step = tile.c_row = shape.columns;
    tile.segments = 1;
    tile.steps = steps;
    tile.a_offset = tile.b_offset = &start;
    tile.init = init.data();
    int64_t done = 0;
    for (; now() < end; done += calls) {
        for (int64_t i = 0; i < calls; ++i) shape.along[shape.rows](tile);
    }
    return done;
}

}  // namespace

template <class T>
double measure_peak(const Isa& isa, int threads, double seconds) {
    const Kernels<T>& kernels = kernels_of<T>(isa);
    const TileShape<T>& shape = kernels.shape[kernels.tall];
    double best = 0;
    for (int run = 0; run < bursts; ++run) {
        std::atomic<int64_t> tiles{0};
        const double begin = now(), end = begin + seconds / bursts;
        // A thread that comes late finds the time over, so that the work of all is what was done side by side.
        parallel_for(threads, threads, [&](int64_t) { tiles += tiles_until<T>(end, shape); });
        const double elapsed = now() - begin;
        const double operations =
            2.0 * static_cast<double>(tiles) * static_cast<double>(steps) * shape.rows * shape.columns;
        best = std::max(best, operations / elapsed / 1e9);
    }
    return best;
}

double measure_bandwidth(int threads, double seconds) {
    // Not from the pool, which would keep 192 MB for nobody.
    std::unique_ptr<float[]> a(new float[numbers]), b(new float[numbers]), c(new float[numbers]);
    const float factor = 3;
    auto sweep = [&](auto body) {
        const double begin = now();
        parallel_for(numbers / piece, threads, [&](int64_t i) {
            for (int64_t j = i * piece; j < (i + 1) * piece; ++j) body(j);
        });
        return now() - begin;
    };
    sweep([&](int64_t j) { a[j] = b[j] = c[j] = 1; });  // pays for the page faults
    double fastest = sweep([&](int64_t j) { a[j] = b[j] + factor * c[j]; }), spent = fastest;
    for (int run = 1; run < sweeps || spent < seconds; ++run) {
        const double elapsed = sweep([&](int64_t j) { a[j] = b[j] + factor * c[j]; });
        fastest = std::min(fastest, elapsed);
        spent += elapsed;
    }
    return 3.0 * numbers * sizeof(float) / fastest / 1e9;
}

template double measure_peak<float>(const Isa&, int, double);
template double measure_peak<double>(const Isa&, int, double);

}  // namespace backlit
