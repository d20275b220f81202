// Planes (one channel of one sample of a channels-first array) cut into bands and copied so that every position of a
// band reads at the same distances: padding written out, strides taken apart.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/table.h"
#include "reads.h"

namespace backlit {

// Positions of a plane: one along the first axis, steps of every residue along the others.
struct Band {
    int64_t depth;
    int64_t row, rows;        // steps of the second axis
    int64_t column, columns;  // steps of the last axis
};

// Where every flat index i = row*pitch + column of the positions of one pair of residues reads: at offset[t] + i.
struct FlatTaps {
    int64_t residue[2];
    std::vector<int64_t> offset, tap;
};

class Plane {
  public:
    // Outputs read inputs; or, backwards, inputs read outputs.
    Plane(const Problem& problem, bool backwards, int lanes);

    bool fits() const { return fits_; }  // else copies would be too large: far dilations
    int64_t bands() const { return reads_[0].positions * row_blocks_ * column_blocks_; }
    Band band(int64_t index) const;
    std::vector<FlatTaps> taps(const Band& band) const;
    // The pairs of residues, whether they have taps or not.
    int64_t pairs() const { return static_cast<int64_t>(reads_[1].residues.size() * reads_[2].residues.size()); }

    int64_t staged_count() const { return staged_count_; }  // numbers of a staged band and what is read beyond it
    int64_t flat_count() const { return flat_count_; }      // numbers of a band's flat positions, for one pair
    int64_t flat_count(const Band& band) const;             // those of this band, a multiple of the lanes

    // The part of `plane` that the band reads; `fill` stands where nothing is to be read. split: Kernels::split, or
    // null for types that have none.
    template <class T>
    void stage(const Band& band, const T* plane, T fill, T* staged, void (*split)(int64_t, const T*, T*, T*)) const;
    // The band's own positions, with a pitch; `fill` between them. Only for planes whose period is 1.
    template <class T>
    void lay_out(const Band& band, const T* plane, T fill, T* flat) const;
    // Back from flat positions, (pairs, flat_count()), to `plane`. merge: Kernels::merge or null.
    template <class T>
    void gather(const Band& band, const T* flat, T* plane, void (*merge)(int64_t, const T*, const T*, T*)) const;

  private:
    // Which phases (input position modulo step) of an axis are read, and how far.
    struct Phases {
        std::vector<int64_t> used;
        int64_t least, most;  // of the shifts: a tap reads step j + shift of its phase
        int64_t index(int64_t phase) const;
    };

    Reads reads_[3];
    Phases phases_[3];
    int64_t kernel_[3];
    int64_t lanes_, rows_, columns_;  // of a band, the most
    int64_t row_blocks_, column_blocks_, slots_, staged_rows_, pitch_, staged_count_, flat_count_;
    bool fits_;
};

}  // namespace backlit
