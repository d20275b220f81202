// How the tiles of a batch of images are cut into strips, and the channels into panels.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/table.h"
#include "problem.h"

namespace backlit {

struct Strip {
    int64_t sample, top, left;  // of its first output
    int64_t tiles;
};

// Tiles of four by four outputs: of every row of tiles of every sample, `parts` strips of nearly equal length.
struct Strips {
    int64_t rows, columns;  // tiles of an image
    int64_t parts, longest;
    int64_t count;  // strips in all

    Strips(int64_t batch, int64_t height, int64_t width)
        : rows(ceil_div(height, 4)),
          columns(ceil_div(width, 4)),
          parts(ceil_div(columns, winograd_strip)),
          longest(ceil_div(columns, parts)),
          count(batch * rows * parts) {}

    int64_t tiles() const { return count / parts * columns; }
    // Tiles in the strips before this one.
    int64_t before(int64_t strip) const { return strip / parts * columns + strip % parts * columns / parts; }
    // Where a piece begins if all strips are cut into `pieces` pieces.
    int64_t cut(int64_t piece, int64_t pieces) const { return count * piece / pieces; }
    Strip at(int64_t strip) const {
        const int64_t line = strip / parts, first = before(strip);
        return {line / rows, line % rows * 4, (first - line * columns) * 4, before(strip + 1) - first};
    }
};

// An image with channels, or a gradient of the same form, as the transforms read and write it.
template <class Pointer>
struct Images {
    Pointer data;
    int64_t channels;  // of all groups
    int64_t height, width;
    Strides strides;

    Pointer at(int64_t sample, int64_t channel) const {
        return data + sample * strides.batch + channel * strides.channel;
    }
};

// Panels of channels, as wide as the widest micro-tile; the last may be one vector wide.
struct Panels {
    int64_t channels, lanes, wide;

    Panels(int64_t channels, const Kernels<float>& kernels)
        : channels(channels), lanes(kernels.lanes), wide(kernels.shape[kernels.tall].columns) {}

    int64_t count() const { return ceil_div(channels, wide); }
    int64_t padded() const { return ceil_div(channels, lanes) * lanes; }  // channels in whole vectors
    int64_t first(int64_t panel) const { return panel * wide; }
    int64_t used(int64_t panel) const { return std::min(wide, channels - first(panel)); }
    int64_t width(int64_t panel) const { return ceil_div(used(panel), lanes) * lanes; }
};

// The micro-tiles whose columns are the width of a panel: one or two vectors.
inline const TileShape<float>& shape_of(const Kernels<float>& kernels, int64_t width) {
    return kernels.shape[width == kernels.lanes ? kernels.tall - 1 : kernels.tall];
}

// How much is done at once. Private: every piece transforms a block of tiles for itself and meets all of the weights,
// which were transformed before. Shared: few tiles or many weights; the tiles are transformed first, and every piece
// transforms its own weights, which then never leave its cache.
struct Cut {
    bool shared;
    int64_t blocks;  // of strips
    int64_t tiles;   // of a block, at most
};

// `steps` channels of the source and `lanes` channels of the result, of one group. Follows from the problem alone.
Cut cut_of(const Strips& strips, int64_t steps, int64_t lanes);

// The gradient of the weights: chunks of strips whose sums are private to a piece, or 0 where the sums over all tiles
// belong to pieces that each have a panel of inputs and one of outputs.
int64_t private_chunks(const Strips& strips, int64_t inputs, int64_t outputs);

alignas(64) inline constexpr float winograd_zeros[64] = {};
inline constexpr int64_t no_offset[1] = {0};

}  // namespace backlit
