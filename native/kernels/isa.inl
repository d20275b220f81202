// Included once by the file of each instruction set, after it has set
//     BACKLIT_ISA      the name of the table, and
//     BACKLIT_BYTES    the width of a vector register; BACKLIT_REGISTERS, how many there are.
#include "simd.h"
#include "table.h"

#include "tile.inl"
#include "matrix.inl"
#include "window.inl"

#include "depthwise.inl"
#include "pool.inl"
#include "winograd.inl"

namespace backlit {
namespace {

// Every width down to four floats or two doubles, one vector wide; two vectors wide, as that loads little for the
// arithmetic it does; and four where the registers allow, as that writes whole rows of a result and loads least. The rows
// are what the registers hold besides b and the broadcast.
template <class T>
constexpr Kernels<T> kernels() {
    constexpr int lanes = BACKLIT_BYTES / sizeof(T);
    constexpr int narrow = BACKLIT_REGISTERS == 32 ? 14 : 12, wide = BACKLIT_REGISTERS == 32 ? 14 : 6;
    Kernels<T> table = {};
    table.lanes = lanes;
#if BACKLIT_BYTES > 32
    table.shape[table.shapes++] = tile_shape<T, lanes / 4, 1, narrow>();
#endif
#if BACKLIT_BYTES > 16
    table.shape[table.shapes++] = tile_shape<T, lanes / 2, 1, narrow>();
#endif
    table.shape[table.shapes++] = tile_shape<T, lanes, 1, narrow>();
    table.tall = table.shapes;
    table.shape[table.shapes++] = tile_shape<T, lanes, 2, wide>();
#if BACKLIT_REGISTERS == 32
    table.shape[table.shapes++] = tile_shape<T, lanes, 4, 7>();
#endif
    table.copy = copy_matrix<T, lanes>;
    table.transpose = transpose_matrix<T, lanes>;
    if constexpr (sizeof(T) == 4) table.winograd = winograd_kernels<T, lanes>();
    depthwise_kernels<T, lanes>(table);
    pool_kernels<T, lanes>(table);
    return table;
}

}  // namespace

extern const Isa BACKLIT_ISA = {BACKLIT_NAME, kernels<float>(), kernels<double>()};

}  // namespace backlit
