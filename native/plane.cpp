#include "plane.h"

#include <algorithm>

namespace backlit {
namespace {

constexpr int64_t band_numbers = int64_t{1} << 13;  // staged numbers of a band: they stay in the first-level cache
constexpr int64_t staged_limit = int64_t{1} << 18;  // more than this is not worth copying
constexpr int64_t longest_row = 1024;

int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }
}  // namespace

int64_t Plane::Phases::index(int64_t phase) const {
    return std::lower_bound(used.begin(), used.end(), phase) - used.begin();
}

Plane::Plane(const Problem& p, bool backwards, int lanes) : lanes_(lanes) {
    for (int a = 0; a < 3; ++a) {
        reads_[a] = backwards ? inputs_read(p.axis[a]) : outputs_read(p.axis[a]);
        kernel_[a] = p.axis[a].kernel;
        Phases& phases = phases_[a];
        phases.least = INT64_MAX;
        phases.most = INT64_MIN;
        for (const Residue& residue : reads_[a].residues) {
            if (residue.segments.empty()) continue;
            for (int64_t offset : residue.offset) {
                const int64_t shift = floor_div(offset, reads_[a].step);
                phases.used.push_back(offset - shift * reads_[a].step);
                phases.least = std::min(phases.least, shift);
                phases.most = std::max(phases.most, shift);
            }
        }
        if (phases.used.empty()) {
            phases.used = {0};
            phases.least = phases.most = 0;
        }
        std::sort(phases.used.begin(), phases.used.end());
        phases.used.erase(std::unique(phases.used.begin(), phases.used.end()), phases.used.end());
    }
    slots_ = 0;
    for (const Residue& residue : reads_[0].residues)
        slots_ = std::max(slots_, static_cast<int64_t>(residue.offset.size()));
    const int64_t steps[2] = {reads_[1].steps(0), reads_[2].steps(0)};
    column_blocks_ = ceil_div(steps[1], longest_row);
    columns_ = ceil_div(steps[1], column_blocks_);
    column_blocks_ = ceil_div(steps[1], columns_);
    pitch_ = columns_ + phases_[2].most - phases_[2].least;
    const int64_t span = phases_[1].most - phases_[1].least;
    const double row_numbers = static_cast<double>(pitch_) * static_cast<double>(slots_) *
                               static_cast<double>(phases_[1].used.size() * phases_[2].used.size());
    const double rows = static_cast<double>(band_numbers) / std::max(1.0, row_numbers) - static_cast<double>(span);
    rows_ = std::min(steps[0], std::max<int64_t>(static_cast<int64_t>(rows), 8));
    row_blocks_ = ceil_div(steps[0], rows_);
    rows_ = ceil_div(steps[0], row_blocks_);
    row_blocks_ = ceil_div(steps[0], rows_);
    staged_rows_ = rows_ + span;
    fits_ = row_numbers * static_cast<double>(staged_rows_) <= static_cast<double>(staged_limit) &&
            static_cast<double>(pitch_) * static_cast<double>(rows_ * pairs()) <= static_cast<double>(staged_limit);
    if (!fits_) {
        staged_count_ = flat_count_ = 0;
        return;
    }
    const int64_t phases = static_cast<int64_t>(phases_[1].used.size() * phases_[2].used.size());
    staged_count_ = slots_ * phases * staged_rows_ * pitch_ + pitch_ + 2 * lanes_;
    flat_count_ = ceil_div(rows_ * pitch_, lanes_) * lanes_;
}

Band Plane::band(int64_t index) const {
    const int64_t column = index % column_blocks_ * columns_, row = index / column_blocks_ % row_blocks_ * rows_;
    return {index / column_blocks_ / row_blocks_, row, std::min(rows_, reads_[1].steps(0) - row), column,
            std::min(columns_, reads_[2].steps(0) - column)};
}

int64_t Plane::flat_count(const Band& band) const {
    return ceil_div((band.rows - 1) * pitch_ + band.columns, lanes_) * lanes_;
}

std::vector<FlatTaps> Plane::taps(const Band& band) const {
    const int64_t phases[2] = {static_cast<int64_t>(phases_[1].used.size()),
                               static_cast<int64_t>(phases_[2].used.size())};
    const Segment depth = reads_[0].at(band.depth);
    const Residue& outer = reads_[0].residues[band.depth % reads_[0].period];
    std::vector<FlatTaps> result;
    for (size_t a = 0; a < reads_[1].residues.size(); ++a)
        for (size_t b = 0; b < reads_[2].residues.size(); ++b) {
            FlatTaps flat = {{static_cast<int64_t>(a), static_cast<int64_t>(b)}, {}, {}};
            const Residue &rows = reads_[1].residues[a], &columns = reads_[2].residues[b];
            for (int64_t i = depth.first; i < depth.last; ++i)
                for (size_t j = 0; j < rows.offset.size(); ++j)
                    for (size_t k = 0; k < columns.offset.size(); ++k) {
                        const int64_t row = floor_div(rows.offset[j], reads_[1].step);
                        const int64_t column = floor_div(columns.offset[k], reads_[2].step);
                        const int64_t row_phase = phases_[1].index(rows.offset[j] - row * reads_[1].step);
                        const int64_t column_phase = phases_[2].index(columns.offset[k] - column * reads_[2].step);
                        const int64_t slot = ((i - depth.first) * phases[1] + column_phase) * phases[0] + row_phase;
                        flat.offset.push_back((slot * staged_rows_ + row - phases_[1].least) * pitch_ + column -
                                              phases_[2].least);
                        flat.tap.push_back((outer.tap[i] * kernel_[1] + rows.tap[j]) * kernel_[2] + columns.tap[k]);
                    }
            result.push_back(std::move(flat));
        }
    return result;
}

template <class T>
void Plane::stage(const Band& band, const T* plane, T fill, T* staged, void (*split)(int64_t, const T*, T*, T*)) const {
    const Reads &rows = reads_[1], &columns = reads_[2];
    const std::vector<int64_t>&row_phases = phases_[1].used, &column_phases = phases_[2].used;
    const int64_t phase_numbers = static_cast<int64_t>(row_phases.size()) * staged_rows_ * pitch_;
    const int64_t slot_numbers = phase_numbers * static_cast<int64_t>(column_phases.size());
    const Segment depth = reads_[0].at(band.depth);
    const Residue& outer = reads_[0].residues[band.depth % reads_[0].period];
    const int64_t high = band.rows + phases_[1].most - phases_[1].least;
    const int64_t wide = band.columns + phases_[2].most - phases_[2].least;
    const int64_t first_row = band.row + phases_[1].least, first_column = band.column + phases_[2].least;
    // The columns of each phase that exist: staged from begin to below end.
    const auto bounds = [&](int64_t phase, int64_t& begin, int64_t& end) {
        begin = std::min(wide, std::max<int64_t>(0, -floor_div(phase, columns.step) - first_column));
        end = std::max(begin, std::min(wide, floor_div(columns.limit - 1 - phase, columns.step) + 1 - first_column));
    };
    const bool pairs = split != nullptr && columns.step == 2 && column_phases.size() == 2;
    for (int64_t slot = 0; slot < depth.last - depth.first; ++slot) {
        const int64_t layer = depth.begin * reads_[0].step + outer.offset[depth.first + slot];
        for (size_t a = 0; a < row_phases.size(); ++a)
            for (int64_t q = 0; q < high; ++q) {
                const int64_t row = (first_row + q) * rows.step + row_phases[a];
                T* to = staged + slot * slot_numbers + (static_cast<int64_t>(a) * staged_rows_ + q) * pitch_;
                if (row < 0 || row >= rows.limit) {
                    for (size_t b = 0; b < column_phases.size(); ++b)
                        std::fill_n(to + static_cast<int64_t>(b) * phase_numbers, pitch_, fill);
                    continue;
                }
                const T* from = plane + (layer * rows.limit + row) * columns.limit;
                int64_t done = 0;  // staged columns that both phases have already
                int64_t start = 0;
                if (pairs) {
                    int64_t ends[2], begins[2];
                    for (int b = 0; b < 2; ++b) bounds(b, begins[b], ends[b]);
                    start = std::max(begins[0], begins[1]);
                    done = std::max(start, std::min(ends[0], ends[1]));
                    split(done - start, from + 2 * (first_column + start), to + start, to + phase_numbers + start);
                }
                for (size_t b = 0; b < column_phases.size(); ++b, to += phase_numbers) {
                    int64_t begin, end;
                    bounds(column_phases[b], begin, end);
                    std::fill(to, to + begin, fill);
                    std::fill(to + end, to + pitch_, fill);
                    const T* source = from + first_column * columns.step + column_phases[b];
                    if (columns.step == 1) {
                        std::copy(source + begin, source + end, to + begin);
                    } else {
                        if (!pairs) start = done = end;
                        for (int64_t i = begin; i < std::min(start, end); ++i) to[i] = source[i * columns.step];
                        for (int64_t i = std::max(begin, done); i < end; ++i) to[i] = source[i * columns.step];
                    }
                }
            }
    }
}

template <class T>
void Plane::lay_out(const Band& band, const T* plane, T fill, T* flat) const {
    const int64_t height = reads_[1].positions, width = reads_[2].positions;
    for (int64_t q = 0; q < band.rows; ++q) {
        const T* from = plane + (band.depth * height + band.row + q) * width + band.column;
        T* to = flat + q * pitch_;
        std::copy(from, from + band.columns, to);
        std::fill(to + band.columns, to + pitch_, fill);
    }
    std::fill(flat + band.rows * pitch_, flat + flat_count_, fill);
}

template <class T>
void Plane::gather(const Band& band, const T* flat, T* plane, void (*merge)(int64_t, const T*, const T*, T*)) const {
    const Reads &rows = reads_[1], &columns = reads_[2];
    const int64_t residues = static_cast<int64_t>(columns.residues.size());
    for (int64_t a = 0; a < static_cast<int64_t>(rows.residues.size()); ++a)
        for (int64_t q = 0; q < band.rows; ++q) {
            const int64_t row = a + (band.row + q) * rows.period;
            if (row >= rows.positions) break;
            T* to = plane + (band.depth * rows.positions + row) * columns.positions + band.column * columns.period;
            const T* from = flat + a * residues * flat_count_ + q * pitch_;
            if (columns.period == 1) {
                std::copy(from, from + band.columns, to);
                continue;
            }
            if (merge != nullptr && columns.period == 2 && residues == 2) {
                const int64_t both = std::min(band.columns, columns.steps(1) - band.column);
                merge(both, from, from + flat_count_, to);
                if (both < band.columns) to[2 * both] = from[both];
                continue;
            }
            for (int64_t b = 0; b < residues; ++b) {
                const int64_t count = std::min(band.columns, columns.steps(b) - band.column);
                for (int64_t i = 0; i < count; ++i) to[b + i * columns.period] = from[b * flat_count_ + i];
            }
        }
}

#define BACKLIT_PLANE(T)                                                                                 \
    template void Plane::stage(const Band&, const T*, T, T*, void (*)(int64_t, const T*, T*, T*)) const; \
    template void Plane::lay_out(const Band&, const T*, T, T*) const;                                    \
    template void Plane::gather(const Band&, const T*, T*, void (*)(int64_t, const T*, const T*, T*)) const;
BACKLIT_PLANE(float)
BACKLIT_PLANE(double)
BACKLIT_PLANE(uint8_t)
BACKLIT_PLANE(uint16_t)
BACKLIT_PLANE(uint32_t)
#undef BACKLIT_PLANE

}  // namespace backlit
